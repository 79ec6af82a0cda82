/* What Python calls: choosing a level, and threading its passes over samples and rows. No result depends on either. */
#include "psc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PORTABLE, AVX2, AVXVNNI, AVX512VNNI, AMX, LEVELS, PARTS = 2, NORM_MAX = 2047, PIECES = 8 };

typedef struct { /* float32 (N, H, W, C), the channels in one or two tensors */
    const float *x[PARTS], *range[PARTS]; /* range: [N][2], smallest and largest, zero included */
    int channels[PARTS];
    long samples, height, width;
} Source;

typedef struct { /* codes (N, H + 2, W + 2, pixel bytes): a border of zeros, and channels padded to whole words */
    uint8_t *codes;
    float *scale;
    int32_t *zero;
    long pixel;
} Padded;

typedef struct {
    const double *gamma, *beta;
    const float *sigmoid; /* NULL: no activation */
    int groups;
    double eps;
} Norm;

/* ---- levels ---- */

#if defined(HAS_X86)
#include <cpuid.h>

enum { EAX, EDX };

static int has_bits(int part, int in, unsigned bits) { /* of CPUID's leaf 7: what extends AVX2 */
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, part, &a, &b, &c, &d) && ((in == EDX ? d : a) & bits) == bits;
}
#endif

int psc_supports(int level) {
#if defined(HAS_X86)
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2");
    int avx512 = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (level == AVX2) return avx2;
    if (level == AVX512VNNI) return avx512;
#endif
#if defined(HAS_AVXVNNI)
    if (level == AVXVNNI) return avx2 && has_bits(1, EAX, 1u << 4);
#endif
#if defined(HAS_AMX)
    if (level == AMX) return avx512 && has_bits(0, EDX, 3u << 24 /* AMX-TILE, AMX-INT8 */) && psc_tiles_granted();
#endif
    return level == PORTABLE;
}

const Level *psc_at(int level) {
#if defined(HAS_X86)
    if (level == AVX2) return &psc_avx2;
    if (level == AVX512VNNI) return &psc_avx512vnni;
#endif
#if defined(HAS_AVXVNNI)
    if (level == AVXVNNI) return &psc_avxvnni;
#endif
#if defined(HAS_AMX)
    if (level == AMX) return &psc_amx;
#endif
    (void)level;
    return &psc_portable;
}

int psc_lanes(int level) { return psc_at(level)->lanes; }
int psc_word(int level) { return psc_at(level)->word; }
int psc_group(int level) { return psc_at(level)->group; }
int psc_run(int level) { return psc_at(level)->run; }

/* ---- ranges ---- */

static void merge(float *to, float value, int largest) {
    float seen;
    __atomic_load(to, &seen, __ATOMIC_RELAXED);
    while (largest ? value > seen : value < seen)
        if (__atomic_compare_exchange(to, &seen, &value, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return;
}

void psc_merge_range(float *range, float low, float high) {
    merge(range, low, 0);
    merge(range + 1, high, 1);
}

static void part_range(const Source *s, int part, long n, float *range) {
    for (int end = 0; end < 2; end++) {
        float value = s->range[part][2 * n + end];
        if (end ? value > range[end] : value < range[end]) range[end] = value;
    }
}

static void range_at(const Source *s, long n, float *range) {
    range[0] = range[1] = 0.0f;
    for (int part = 0; part < PARTS && s->channels[part]; part++) part_range(s, part, n, range);
}

void psc_ranges(int level, const float *x, long samples, long count, float *range, int threads) {
    const Level *at = psc_at(level);
    long run = 1 << 14, runs = (count + run - 1) / run;
    memset(range, 0, 2 * samples * sizeof(float));
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (long i = 0; i < samples * runs; i++) {
        long n = i / runs, first = i % runs * run;
        float own[2] = {0.0f, 0.0f};
        at->range(x + n * count + first, count - first < run ? count - first : run, own);
        psc_merge_range(range + 2 * n, own[0], own[1]);
    }
}

static Rounding rounding(const float *range) {
    Rounding r;
    float reach = range[1] - range[0];
    reach = reach == 0.0f ? 1.0f : reach;
    r.factor = 255.0f / reach;
    r.scale = reach * (float)(1.0 / 255.0);
    float place = range[0] * r.factor;
    r.zero = (int32_t)-rintf(place);
    return r;
}

/* ---- writing codes ---- */

/* Every pixel of one sample through a map a part; `left`: the range of what coarse codes leave, or NULL. */
static void write_sample(const Level *at, const Source *s, const Map *maps, long n, Rounding to, const Padded *out,
                         float *left, int threads) {
    long line = (s->width + 2) * out->pixel;
    uint8_t *corner = out->codes + n * (s->height + 2) * line;
    int border = at->word == 4 ? to.zero : 0;
    out->scale[n] = to.scale, out->zero[n] = to.zero;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (long y = -1; y <= s->height; y++) {
        uint8_t *row = corner + (y + 1) * line;
        memset(row, border, y < 0 || y == s->height ? line : out->pixel);
        if (y < 0 || y == s->height) continue;
        memset(row + line - out->pixel, border, out->pixel);
        row += out->pixel;
        for (int part = 0; part < PARTS && s->channels[part]; part++) {
            const float *x = s->x[part] + (n * s->height + y) * s->width * s->channels[part];
            float own[2] = {0.0f, 0.0f};
            if (left) {
                at->coarse(s->channels[part], x, s->width, &to, row, out->pixel, own);
                psc_merge_range(left, own[0], own[1]);
            } else {
                at->codes(maps + part, x, s->width, &to, row, out->pixel);
            }
            row += s->channels[part] * (4 / at->word);
        }
    }
}

/* ---- the two ways to quantize ---- */

typedef struct {
    const Level *at;
    const Source *source;
    const Norm *norm;
    const Padded *out, *rest;
} Task;

static void quantize_sample(const Task *t, long n, int threads) {
    float range[2], left[2] = {0.0f, 0.0f};
    range_at(t->source, n, range);
    Rounding to = rounding(range);
    Map maps[PARTS];
    for (int part = 0; part < PARTS; part++)
        maps[part] = (Map){.mode = t->rest ? REST : PLAIN, .channels = t->source->channels[part], .coarse = to};
    write_sample(t->at, t->source, maps, n, to, t->out, t->rest ? left : NULL, threads);
    if (t->rest) write_sample(t->at, t->source, maps, n, rounding(left), t->rest, NULL, threads);
}

typedef struct { /* of one sample, all [channels] */
    int64_t *first, *second;
    float *low, *high, *gain, *shift;
} Statistics;

static Statistics statistics_new(int channels) {
    Statistics s;
    s.first = calloc(2 * channels, sizeof(int64_t));
    s.low = calloc(4 * channels, sizeof(float));
    s.second = s.first + channels;
    s.high = s.low + channels, s.gain = s.high + channels, s.shift = s.gain + channels;
    for (int c = 0; c < channels; c++) s.low[c] = INFINITY, s.high[c] = -INFINITY;
    return s;
}

static void statistics_free(Statistics s) { free(s.first), free(s.low); }

static void sum_rows(const Task *t, long n, long top, long bottom, float factor, Statistics *to) {
    const Source *s = t->source;
    for (int part = 0, c = 0; part < PARTS && s->channels[part]; c += s->channels[part++]) {
        const float *x = s->x[part] + (n * s->height + top) * s->width * s->channels[part];
        t->at->sums(x, (bottom - top) * s->width, s->channels[part], factor, to->first + c, to->second + c, to->low + c,
                    to->high + c);
    }
}

static void sum_sample(const Task *t, long n, float factor, int channels, Statistics *total, int threads) {
    long pieces = threads > 1 ? PIECES : 1, height = t->source->height;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
    for (long k = 0; k < pieces; k++) {
        Statistics own = statistics_new(channels);
        sum_rows(t, n, height * k / pieces, height * (k + 1) / pieces, factor, &own);
#pragma omp critical(psc_statistics)
        for (int c = 0; c < channels; c++) {
            total->first[c] += own.first[c], total->second[c] += own.second[c];
            total->low[c] = own.low[c] < total->low[c] ? own.low[c] : total->low[c];
            total->high[c] = own.high[c] > total->high[c] ? own.high[c] : total->high[c];
        }
        statistics_free(own);
    }
}

/* norm_affine of integers.py */
static void coefficients(const Norm *norm, long pixels, int channels, float peak, Statistics *s) {
    int spread = channels / norm->groups;
    double count = (double)(pixels * spread), unit = (double)peak / (double)NORM_MAX;
    for (int g = 0; g < norm->groups; g++) {
        int64_t first = 0, second = 0;
        for (int c = g * spread; c < (g + 1) * spread; c++) first += s->first[c], second += s->second[c];
        double mean = (double)first / count, square = (double)second / count;
        double product = mean * mean, variance = square - product;
        variance = variance < 0.0 ? 0.0 : variance;
        double area = unit * unit, spreading = variance * area, deviation = sqrt(spreading + norm->eps);
        double middle = mean * unit;
        for (int c = g * spread; c < (g + 1) * spread; c++) {
            double gain = norm->gamma[c] / deviation, offset = middle * gain;
            s->gain[c] = (float)gain;
            s->shift[c] = (float)(norm->beta[c] - offset);
        }
    }
}

/* Smallest and largest normalized value, zero included: a channel's map is monotonic, so its ends are enough. */
static void normalized_range(const Statistics *s, int channels, float *range) {
    range[0] = range[1] = 0.0f;
    for (int c = 0; c < channels; c++) {
        float ends[2] = {s->low[c] * s->gain[c], s->high[c] * s->gain[c]};
        for (int end = 0; end < 2; end++) {
            float value = ends[end] + s->shift[c];
            range[0] = value < range[0] ? value : range[0];
            range[1] = value > range[1] ? value : range[1];
        }
    }
}

static float silu(const float *sigmoid, float y) {
    float place = rintf(y * 64.0f);
    place = place < -SIGMOID_MAX ? -SIGMOID_MAX : place > SIGMOID_MAX ? SIGMOID_MAX : place;
    return y * sigmoid[(int)place];
}

/* SiLU does not fall above zero, nor below where the table ends; between the two its least value is searched. */
static void activated_range(const Task *t, const Map *maps, long n, float *range, int threads) {
    const Source *s = t->source;
    const float *sigmoid = maps[0].sigmoid;
    float least = range[0] * 64.0f < 0.5f - SIGMOID_MAX ? silu(sigmoid, range[0]) : 0.0f;
    int negative = range[0] < 0.0f;
    range[0] = least, range[1] = silu(sigmoid, range[1]);
    if (!negative) return;
    long pieces = threads > 1 ? PIECES : 1;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
    for (long k = 0; k < pieces; k++) {
        long top = s->height * k / pieces, bottom = s->height * (k + 1) / pieces;
        float own = least;
        for (int part = 0; part < PARTS && s->channels[part]; part++) {
            const float *x = s->x[part] + (n * s->height + top) * s->width * s->channels[part];
            own = t->at->silu_low(maps + part, x, (bottom - top) * s->width, own);
        }
        psc_merge_range(range, own, 0.0f);
    }
}

static void norm_sample(const Task *t, long n, int threads) {
    const Source *s = t->source;
    int channels = s->channels[0] + s->channels[1];
    float range[2];
    range_at(s, n, range);
    float peak = -range[0] > range[1] ? -range[0] : range[1];
    peak = peak == 0.0f ? 1.0f : peak;
    Statistics stats = statistics_new(channels);
    sum_sample(t, n, (float)NORM_MAX / peak, channels, &stats, threads);
    coefficients(t->norm, s->height * s->width, channels, peak, &stats);
    normalized_range(&stats, channels, range);
    const float *sigmoid = t->norm->sigmoid;
    Map maps[PARTS];
    for (int part = 0, c = 0; part < PARTS; c += s->channels[part++])
        maps[part] = (Map){.mode = sigmoid ? SILU : AFFINE, .channels = s->channels[part], .gain = stats.gain + c,
                           .shift = stats.shift + c, .sigmoid = sigmoid ? sigmoid + SIGMOID_MAX : NULL};
    if (sigmoid) activated_range(t, maps, n, range, threads);
    write_sample(t->at, s, maps, n, rounding(range), t->out, NULL, threads);
    statistics_free(stats);
}

/* Samples side by side while they fill the threads, since a sample then stays in one core's cache; then in turn. */
static void each_sample(const Task *t, void (*work)(const Task *, long, int), int threads) {
    long samples = t->source->samples, whole = samples / threads * threads;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (long n = 0; n < whole; n++) work(t, n, 1);
    for (long n = whole; n < samples; n++) work(t, n, threads);
}

/* rest (or NULL): codes of what the first codes leave */
void psc_quantize(int level, const Source *source, const Padded *out, const Padded *rest, int threads) {
    Task t = {psc_at(level), source, NULL, out, rest};
    each_sample(&t, quantize_sample, threads);
}

void psc_norm_quantize(int level, const Source *source, const Norm *norm, const Padded *out, int threads) {
    Task t = {psc_at(level), source, norm, out, NULL};
    each_sample(&t, norm_sample, threads);
}
