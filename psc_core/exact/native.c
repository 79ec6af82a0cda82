/* The integer layers of integers.py, bit for bit, for CPUs. Plain C; AVX-512 VNNI and AVX2 forms of the convolution
 * are chosen at run time. Compiled without contraction and without fast-math: every float operation below is one
 * IEEE-754 operation, in the order of the reference. Loops are threaded over samples and rows; no result depends on it. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#define X86 1
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define X86 0
#define CLONES
#endif

enum { LANES = 16, CHUNK_PIXELS = 256 };

/* ---- reductions and elementwise passes over runs of floats ---- */

static inline int32_t ordered(float value) { /* an int that sorts as the float does */
    int32_t bits;
    memcpy(&bits, &value, 4);
    return bits ^ ((bits >> 31) & 0x7fffffff);
}

static inline float unordered(int32_t key) {
    int32_t bits = key ^ ((key >> 31) & 0x7fffffff);
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

CLONES static void range_of(const float *x, long size, int32_t *low, int32_t *high) {
    const int32_t *bits = (const int32_t *)x;
    int32_t lo = INT32_MAX, hi = INT32_MIN;
    for (long i = 0; i < size; i++) {
        int32_t key = bits[i] ^ ((bits[i] >> 31) & 0x7fffffff);
        lo = key < lo ? key : lo;
        hi = key > hi ? key : hi;
    }
    *low = lo;
    *high = hi;
}

CLONES static int32_t peak_of(const float *x, long size) {
    const int32_t *bits = (const int32_t *)x;
    int32_t peak = 0;
    for (long i = 0; i < size; i++) {
        int32_t key = bits[i] & 0x7fffffff;
        peak = key > peak ? key : peak;
    }
    return peak;
}

CLONES static void channel_sums(const float *restrict x, long pixels, int channels, float factor,
                                int32_t *restrict part, int64_t *restrict sums) {
    for (long start = 0; start < pixels; start += CHUNK_PIXELS) {
        long stop = start + CHUNK_PIXELS < pixels ? start + CHUNK_PIXELS : pixels;
        memset(part, 0, sizeof(int32_t) * 2 * channels);
        for (long p = start; p < stop; p++) {
            const float *row = x + p * channels;
            for (int c = 0; c < channels; c++) {
                int32_t t = (int32_t)__builtin_rintf(row[c] * factor);
                part[c] += t;
                part[channels + c] += t * t;
            }
        }
        for (int c = 0; c < 2 * channels; c++) sums[c] += part[c];
    }
}

CLONES static void affine(const float *restrict x, long pixels, int channels, const float *restrict scale,
                          const float *restrict shift, const float *restrict sigmoid, float *restrict z) {
    for (long p = 0; p < pixels; p++) {
        const float *row = x + p * channels;
        float *out = z + p * channels;
        if (!sigmoid) {
            for (int c = 0; c < channels; c++) {
                float y = row[c] * scale[c];
                out[c] = y + shift[c];
            }
            continue;
        }
        for (int c = 0; c < channels; c++) {
            float y = row[c] * scale[c];
            y = y + shift[c];
            float place = __builtin_rintf(y * 64.0f);
            place = place < -1023.0f ? -1023.0f : place;
            place = place > 1023.0f ? 1023.0f : place;
            out[c] = y * sigmoid[(int32_t)place + 1023];
        }
    }
}

CLONES static void codes_of(const float *restrict x, long size, float factor, float zero, uint8_t *restrict out) {
    for (long i = 0; i < size; i++) {
        float code = __builtin_rintf(x[i] * factor);
        code = code + zero;
        code = code < 0.0f ? 0.0f : code;
        code = code > 255.0f ? 255.0f : code;
        out[i] = (uint8_t)(int32_t)code;
    }
}

CLONES static void rest_of(const float *restrict x, const uint8_t *restrict codes, long size, float scale, float zero,
                           float *restrict rest) {
    for (long i = 0; i < size; i++) {
        float meant = (float)codes[i] - zero;
        meant = meant * scale;
        rest[i] = x[i] - meant;
    }
}

/* ---- quantizing ---- */

typedef struct { /* where a tensor's codes go: (N, H + 2, W + 2, padded channels), a border of "zero" codes */
    long samples, height, width;
    int channels, padded;
} Shape;

static void rounding(int32_t low_key, int32_t high_key, float *factor, float *scale, float *zero) {
    float low = unordered(low_key), high = unordered(high_key);
    low = low < 0.0f ? low : 0.0f;
    high = high > 0.0f ? high : 0.0f;
    float reach = high - low;
    reach = reach == 0.0f ? 1.0f : reach;
    *factor = 255.0f / reach;
    *scale = reach * (float)(1.0 / 255.0);
    float place = low * *factor;
    *zero = -__builtin_rintf(place);
}

static void write_row(const Shape *s, const float *x, float factor, float zero, uint8_t *out) {
    if (s->channels == s->padded) {
        codes_of(x, s->width * s->channels, factor, zero, out);
        return;
    }
    for (long p = 0; p < s->width; p++) {
        codes_of(x + p * s->channels, s->channels, factor, zero, out + p * s->padded);
        memset(out + p * s->padded + s->channels, (int)zero, s->padded - s->channels);
    }
}

static void quantize_range(const Shape *s, const float *x, const int32_t *low, const int32_t *high, uint8_t *out,
                           float *scale, int32_t *zero, float *rest, int threads) {
    long row = s->width * s->channels, line = (s->width + 2) * s->padded;
#pragma omp parallel for num_threads(threads) collapse(2) schedule(static)
    for (long n = 0; n < s->samples; n++)
        for (long y = -1; y <= s->height; y++) {
            float factor, step, none;
            rounding(low[n], high[n], &factor, &step, &none);
            uint8_t *to = out + (n * (s->height + 2) + y + 1) * line;
            if (y < 0 || y == s->height) {
                memset(to, (int)none, line);
                if (y < 0) scale[n] = step, zero[n] = (int32_t)none;
                continue;
            }
            const float *from = x + (n * s->height + y) * row;
            memset(to, (int)none, s->padded);
            write_row(s, from, factor, none, to + s->padded);
            memset(to + (s->width + 1) * s->padded, (int)none, s->padded);
            if (!rest) continue;
            float *left = rest + (n * s->height + y) * row;
            for (long p = 0; p < s->width; p++)
                rest_of(from + p * s->channels, to + (p + 1) * s->padded, s->channels, step, none, left + p * s->channels);
        }
}

static void ranges(const Shape *s, const float *x, int32_t *low, int32_t *high, int threads) {
    long row = s->width * s->channels, rows = s->samples * s->height;
    int32_t *part = malloc(sizeof(int32_t) * 2 * rows);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long r = 0; r < rows; r++) range_of(x + r * row, row, part + 2 * r, part + 2 * r + 1);
    for (long n = 0; n < s->samples; n++) {
        low[n] = INT32_MAX, high[n] = INT32_MIN;
        for (long r = n * s->height; r < (n + 1) * s->height; r++) {
            low[n] = part[2 * r] < low[n] ? part[2 * r] : low[n];
            high[n] = part[2 * r + 1] > high[n] ? part[2 * r + 1] : high[n];
        }
    }
    free(part);
}

void psc_quantize(const float *x, long samples, long height, long width, int channels, int padded, uint8_t *out,
                  float *scale, int32_t *zero, float *rest, int threads) {
    Shape s = {samples, height, width, channels, padded};
    int32_t *keys = malloc(sizeof(int32_t) * 2 * samples);
    ranges(&s, x, keys, keys + samples, threads);
    quantize_range(&s, x, keys, keys + samples, out, scale, zero, rest, threads);
    free(keys);
}

/* ---- group normalization, SiLU and quantizing in one ---- */

static void coefficients(const int64_t *sums, const Shape *s, float peak, const double *gamma, const double *beta,
                         int groups, double eps, float *scale, float *shift) {
    int spread = s->channels / groups;
    double count = (double)(s->height * s->width * spread), unit = (double)peak / 2047.0;
    for (int g = 0; g < groups; g++) {
        int64_t first = 0, second = 0;
        for (int c = g * spread; c < (g + 1) * spread; c++) first += sums[c], second += sums[s->channels + c];
        double mean = (double)first / count, square = (double)second / count;
        double product = mean * mean, variance = square - product;
        variance = variance < 0.0 ? 0.0 : variance;
        double area = unit * unit, spreading = variance * area, deviation = sqrt(spreading + eps), middle = mean * unit;
        for (int c = g * spread; c < (g + 1) * spread; c++) {
            double gain = gamma[c] / deviation, offset = middle * gain;
            scale[c] = (float)gain;
            shift[c] = (float)(beta[c] - offset);
        }
    }
}

void psc_norm_quantize(const float *x, long samples, long height, long width, int channels, int padded,
                       const double *gamma, const double *beta, int groups, double eps, const float *sigmoid, float *z,
                       uint8_t *out, float *out_scale, int32_t *out_zero, int threads) {
    Shape s = {samples, height, width, channels, padded};
    long row = width * channels, rows = samples * height;
    long pieces = height < 16 ? height : 16; /* row chunks a sample */
    int32_t *peaks = malloc(sizeof(int32_t) * rows), *keys = malloc(sizeof(int32_t) * 2 * samples);
    int64_t *sums = calloc(samples * pieces * 2 * channels, sizeof(int64_t));
    float *map = malloc(sizeof(float) * 2 * samples * channels), *peak = malloc(sizeof(float) * samples);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long r = 0; r < rows; r++) peaks[r] = peak_of(x + r * row, row);
    for (long n = 0; n < samples; n++) {
        int32_t best = 0;
        for (long r = n * height; r < (n + 1) * height; r++) best = peaks[r] > best ? peaks[r] : best;
        memcpy(peak + n, &best, 4);
        peak[n] = best ? peak[n] : 1.0f;
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long item = 0; item < samples * pieces; item++) {
        long n = item / pieces, k = item % pieces, top = height * k / pieces, bottom = height * (k + 1) / pieces;
        int32_t *part = malloc(sizeof(int32_t) * 2 * channels);
        channel_sums(x + (n * height + top) * row, (bottom - top) * width, channels, 2047.0f / peak[n], part,
                     sums + item * 2 * channels);
        free(part);
    }
    for (long n = 0; n < samples; n++) {
        int64_t *first = sums + n * pieces * 2 * channels;
        for (long k = 1; k < pieces; k++)
            for (int c = 0; c < 2 * channels; c++) first[c] += first[k * 2 * channels + c];
        float *scale = map + 2 * n * channels;
        coefficients(first, &s, peak[n], gamma, beta, groups, eps, scale, scale + channels);
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long r = 0; r < rows; r++) {
        const float *scale = map + 2 * (r / height) * channels;
        affine(x + r * row, width, channels, scale, scale + channels, sigmoid, z + r * row);
    }
    ranges(&s, z, keys, keys + samples, threads);
    quantize_range(&s, z, keys, keys + samples, out, out_scale, out_zero, NULL, threads);
    free(peaks), free(keys), free(sums), free(map), free(peak);
}

void psc_upsample(const uint8_t *q, long samples, long height, long width, int padded, const int32_t *zero, uint8_t *out,
                  int threads) {
    long line = (width + 2) * padded, wide = (2 * width + 2) * padded;
#pragma omp parallel for num_threads(threads) collapse(2) schedule(static)
    for (long n = 0; n < samples; n++)
        for (long y = -1; y <= 2 * height; y++) {
            uint8_t *to = out + (n * (2 * height + 2) + y + 1) * wide;
            memset(to, zero[n], wide);
            if (y < 0 || y == 2 * height) continue;
            const uint8_t *from = q + (n * (height + 2) + y / 2 + 1) * line + padded;
            for (long p = 0; p < 2 * width; p++) memcpy(to + (p + 1) * padded, from + p / 2 * padded, padded);
        }
}

/* ---- convolution ---- */

typedef struct {
    const uint8_t *q;
    long height, width; /* of the input */
    int padded, kernel, stride, pad, outputs;
    const void *weights; /* packed for the level, blocks of 16 outputs */
    const int32_t *weight_sums;
    const float *weight_scale, *bias, *residual;
    float *out;
    long out_height, out_width;
} Conv;

static inline const uint8_t *corner(const Conv *c, long n, long y, long x, int ky, int kx) {
    long row = n * (c->height + 2) + y * c->stride + ky + 1 - c->pad;
    return c->q + (row * (c->width + 2) + x * c->stride + kx + 1 - c->pad) * c->padded;
}

static inline void finish(const Conv *c, const int32_t *sums, long n, long y, long x, int block, float scale, int32_t zero) {
    long at = ((n * c->out_height + y) * c->out_width + x) * c->outputs + block * LANES;
    int count = c->outputs - block * LANES < LANES ? c->outputs - block * LANES : LANES;
    for (int o = 0; o < count; o++) {
        int i = block * LANES + o;
        float factor = scale * c->weight_scale[i];
        float value = (float)(sums[o] - zero * c->weight_sums[i]) * factor;
        value = value + c->bias[i];
        c->out[at + o] = c->residual ? value + c->residual[at + o] : value;
    }
}

/* portable: weights int16 [block][ky][kx][channel][16] */
static void row_portable(const Conv *c, long n, long y, int block, float scale, int32_t zero) {
    const int16_t *weights = (const int16_t *)c->weights + (long)block * c->kernel * c->kernel * c->padded * LANES;
    for (long x = 0; x < c->out_width; x++) {
        int32_t sums[LANES] = {0};
        const int16_t *w = weights;
        for (int ky = 0; ky < c->kernel; ky++)
            for (int kx = 0; kx < c->kernel; kx++) {
                const uint8_t *a = corner(c, n, y, x, ky, kx);
                for (int i = 0; i < c->padded; i++, w += LANES)
                    for (int o = 0; o < LANES; o++) sums[o] += (int32_t)a[i] * w[o];
            }
        finish(c, sums, n, y, x, block, scale, zero);
    }
}

#if X86
/* AVX2: weights int16 [block][ky][kx][channel pair][16][2]; 16-bit products cannot saturate */
__attribute__((target("avx2"))) static void row_avx2(const Conv *c, long n, long y, int block, float scale, int32_t zero) {
    enum { TILE = 4 };
    int pairs = c->padded / 2;
    const int16_t *weights = (const int16_t *)c->weights + (long)block * c->kernel * c->kernel * pairs * 2 * LANES;
    for (long x = 0; x < c->out_width; x += TILE) {
        int many = c->out_width - x < TILE ? (int)(c->out_width - x) : TILE;
        __m256i acc[TILE][2];
        for (int p = 0; p < TILE; p++) acc[p][0] = acc[p][1] = _mm256_setzero_si256();
        const int16_t *w = weights;
        for (int ky = 0; ky < c->kernel; ky++)
            for (int kx = 0; kx < c->kernel; kx++) {
                const uint8_t *a[TILE];
                for (int p = 0; p < TILE; p++) a[p] = corner(c, n, y, x + (p < many ? p : 0), ky, kx);
                for (int i = 0; i < pairs; i++, w += 2 * LANES) {
                    __m256i w0 = _mm256_loadu_si256((const __m256i *)w);
                    __m256i w1 = _mm256_loadu_si256((const __m256i *)(w + LANES));
#pragma GCC unroll 4
                    for (int p = 0; p < TILE; p++) {
                        uint16_t two;
                        memcpy(&two, a[p] + 2 * i, 2);
                        __m256i v = _mm256_set1_epi32((two & 255) | (two >> 8) << 16);
                        acc[p][0] = _mm256_add_epi32(acc[p][0], _mm256_madd_epi16(v, w0));
                        acc[p][1] = _mm256_add_epi32(acc[p][1], _mm256_madd_epi16(v, w1));
                    }
                }
            }
        for (int p = 0; p < many; p++) {
            int32_t sums[LANES];
            _mm256_storeu_si256((__m256i *)sums, acc[p][0]);
            _mm256_storeu_si256((__m256i *)(sums + 8), acc[p][1]);
            finish(c, sums, n, y, x + p, block, scale, zero);
        }
    }
}

/* AVX-512 VNNI: weights int8 [block][ky][kx][channel quad][16][4]; TILE pixels x up to 2 blocks in registers */
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))

VNNI static inline __attribute__((always_inline)) void tile_vnni(const Conv *c, long n, long y, long x, int block,
                                                                int tile, int blocks, float scale, int32_t zero) {
    int quads = c->padded / 4;
    long size = (long)c->kernel * c->kernel * quads * 64;
    const int8_t *w = (const int8_t *)c->weights + block * size;
    long step = (long)c->stride * c->padded;
    __m512i acc[12][2];
#pragma GCC unroll 12
    for (int p = 0; p < tile; p++) acc[p][0] = acc[p][1] = _mm512_setzero_si512();
    for (int ky = 0; ky < c->kernel; ky++)
        for (int kx = 0; kx < c->kernel; kx++) {
            const uint8_t *a = corner(c, n, y, x, ky, kx);
            for (int i = 0; i < quads; i++, w += 64, a += 4) {
                __m512i w0 = _mm512_loadu_si512(w);
                __m512i w1 = blocks > 1 ? _mm512_loadu_si512(w + size) : w0;
#pragma GCC unroll 12
                for (int p = 0; p < tile; p++) {
                    int32_t four;
                    memcpy(&four, a + p * step, 4);
                    __m512i v = _mm512_set1_epi32(four);
                    acc[p][0] = _mm512_dpbusd_epi32(acc[p][0], v, w0);
                    if (blocks > 1) acc[p][1] = _mm512_dpbusd_epi32(acc[p][1], v, w1);
                }
            }
        }
    for (int b = 0; b < blocks; b++) {
        int first = (block + b) * LANES, left = c->outputs - first;
        __mmask16 mask = left >= LANES ? 0xffff : (__mmask16)((1u << left) - 1);
        __m512 factor = _mm512_mul_ps(_mm512_set1_ps(scale), _mm512_maskz_loadu_ps(mask, c->weight_scale + first));
        __m512i correction =
            _mm512_mullo_epi32(_mm512_set1_epi32(zero), _mm512_maskz_loadu_epi32(mask, c->weight_sums + first));
        __m512 bias = _mm512_maskz_loadu_ps(mask, c->bias + first);
#pragma GCC unroll 12
        for (int p = 0; p < tile; p++) {
            long at = ((n * c->out_height + y) * c->out_width + x + p) * c->outputs + first;
            __m512 value = _mm512_cvtepi32_ps(_mm512_sub_epi32(acc[p][b], correction));
            value = _mm512_mul_ps(value, factor);
            value = _mm512_add_ps(value, bias);
            if (c->residual) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, c->residual + at));
            _mm512_mask_storeu_ps(c->out + at, mask, value);
        }
    }
}

VNNI static void row_vnni(const Conv *c, long n, long y, int block, int blocks, float scale, int32_t zero) {
    long x = 0, width = c->out_width;
#define RUN(T)                                                                      \
    for (; width - x >= T; x += T) {                                                \
        if (blocks > 1) tile_vnni(c, n, y, x, block, T, 2, scale, zero);            \
        else tile_vnni(c, n, y, x, block, T, 1, scale, zero);                       \
    }
    RUN(12) RUN(8) RUN(4) RUN(2) RUN(1)
#undef RUN
}
#endif

/* 2: AVX-512 VNNI, 1: AVX2, 0: portable */
int psc_level(void) {
#if X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        return 2;
    if (__builtin_cpu_supports("avx2")) return 1;
#endif
    return 0;
}

void psc_conv(const uint8_t *q, long samples, long height, long width, int padded, const int32_t *zero, const float *scale,
              const void *weights, const int32_t *weight_sums, int kernel, int stride, int pad, int outputs,
              const float *weight_scale, const float *bias, const float *residual, float *out, int level, int threads) {
    Conv c = {q,       height,   width,        padded, kernel,   stride, pad, outputs,
              weights, weight_sums, weight_scale, bias,   residual, out,
              (height + 2 * pad - kernel) / stride + 1, (width + 2 * pad - kernel) / stride + 1};
    int blocks = (outputs + LANES - 1) / LANES;
    long lines = 4, chunks = (c.out_height + lines - 1) / lines;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (long item = 0; item < samples * chunks; item++) {
        long n = item / chunks, top = item % chunks * lines;
        long bottom = top + lines < c.out_height ? top + lines : c.out_height;
        for (int block = 0; block < blocks; block += level == 2 ? 2 : 1)
            for (long y = top; y < bottom; y++) {
#if X86
                if (level == 2) row_vnni(&c, n, y, block, blocks - block > 1 ? 2 : 1, scale[n], zero[n]);
                else if (level == 1) row_avx2(&c, n, y, block, scale[n], zero[n]);
                else
#endif
                    row_portable(&c, n, y, block, scale[n], zero[n]);
            }
    }
}

/* ---- noise: Philox4x32-10 through the inverse-normal table, as noise.py ---- */

CLONES static void philox_run(uint32_t first, long blocks, const uint32_t *fixed, const uint32_t *key,
                              const float *restrict table, float *restrict out) {
    for (long i = 0; i < blocks; i++) {
        uint32_t x0 = first + (uint32_t)i, x1 = fixed[0], x2 = fixed[1], x3 = fixed[2], k0 = key[0], k1 = key[1];
        for (int round = 0; round < 10; round++) {
            uint64_t p0 = (uint64_t)x0 * 0xD2511F53u, p1 = (uint64_t)x2 * 0xCD9E8D57u;
            uint32_t y0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0, y2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
            x0 = y0, x1 = (uint32_t)p1, x2 = y2, x3 = (uint32_t)p0;
            k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
        }
        uint32_t words[4] = {x0, x1, x2, x3};
        for (int w = 0; w < 4; w++) {
            out[8 * i + 2 * w] = table[words[w] & 0xffff];
            out[8 * i + 2 * w + 1] = table[words[w] >> 16];
        }
    }
}

/* ``out`` (blocks x 8) for counter words (0.., fixed) */
void psc_normal(long blocks, const uint32_t *fixed, const uint32_t *key, const float *table, float *out, int threads) {
    long run = 512, runs = (blocks + run - 1) / run;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long r = 0; r < runs; r++) {
        long first = r * run, count = blocks - first < run ? blocks - first : run;
        philox_run((uint32_t)first, count, fixed, key, table, out + 8 * first);
    }
}
