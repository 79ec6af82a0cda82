/* Elementwise passes, written once over the vector operations that a level file defines. */
#include <float.h>
#include <string.h>

#include "psc.h"

#define INLINE static inline __attribute__((always_inline))

INLINE vf load_some(const float *p, int n) { return n >= LANES ? vf_load(p) : vf_load_first(p, n); }

static void pass_range(const float *x, long count, float *range) {
    vf low0 = vf_set(range[0]), high0 = vf_set(range[1]), low1 = low0, high1 = high0;
    long i = 0;
    for (; i + 2 * LANES <= count; i += 2 * LANES) {
        vf a = vf_load(x + i), b = vf_load(x + i + LANES);
        low0 = vf_min(low0, a), high0 = vf_max(high0, a);
        low1 = vf_min(low1, b), high1 = vf_max(high1, b);
    }
    float low = vf_lowest(vf_min(low0, low1)), high = vf_highest(vf_max(high0, high1));
    for (; i < count; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    range[0] = low, range[1] = high;
}

/* Sums of one block of channels: two pixels' values share a lane as int16, so that one multiplication serves both. */
INLINE void sums_block(const float *x, long pixels, int channels, int n, float factor, int64_t *first, int64_t *second,
                       float *low, float *high) {
    enum { RUN = 256 /* 2047^2 x 256 < 2^31 */ };
    vf f = vf_set(factor), lowest = vf_set(FLT_MAX), highest = vf_set(-FLT_MAX);
    for (long start = 0; start < pixels; start += RUN) {
        long stop = start + RUN < pixels ? start + RUN : pixels, p = start;
        vi ones = vi_set(0x10001), one = vi_set(0), two = vi_set(0);
        for (; p < stop; p += 2) {
            vf a = load_some(x + p * channels, n), b = p + 1 < stop ? load_some(x + (p + 1) * channels, n) : a;
            lowest = vf_min(lowest, vf_min(a, b)), highest = vf_max(highest, vf_max(a, b));
            vi t = vi_round(vf_mul(a, f)), u = p + 1 < stop ? vi_round(vf_mul(b, f)) : vi_set(0);
            vi both = vi_pair(t, u);
            one = vi_dot16(one, both, ones);
            two = vi_dot16(two, both, both);
        }
        int32_t sums[2][LANES];
        vi_store(sums[0], one), vi_store(sums[1], two);
        for (int c = 0; c < n; c++) first[c] += sums[0][c], second[c] += sums[1][c];
    }
    float ends[2][LANES];
    vf_store(ends[0], lowest), vf_store(ends[1], highest);
    for (int c = 0; c < n; c++) {
        low[c] = ends[0][c] < low[c] ? ends[0][c] : low[c];
        high[c] = ends[1][c] > high[c] ? ends[1][c] : high[c];
    }
}

static void pass_sums(const float *x, long pixels, int channels, float factor, int64_t *first, int64_t *second,
                      float *low, float *high) {
    enum { RUN = 128 /* pixels that stay in the nearest cache while every block of channels passes over them */ };
    for (long start = 0; start < pixels; start += RUN) {
        long many = pixels - start < RUN ? pixels - start : RUN;
        const float *at = x + start * channels;
        int c = 0;
        for (; c + LANES <= channels; c += LANES)
            sums_block(at + c, many, channels, LANES, factor, first + c, second + c, low + c, high + c);
        if (c < channels)
            sums_block(at + c, many, channels, channels - c, factor, first + c, second + c, low + c, high + c);
    }
}

INLINE vf affine(const Map *m, vf x, int c, int n) {
    vf y = vf_mul(x, load_some(m->gain + c, n));
    return vf_add(y, load_some(m->shift + c, n));
}

INLINE vf silu(const float *sigmoid, vf y) {
    vf place = vf_mul(y, vf_set(64.0f));
    place = vf_min(vf_max(place, vf_set(-SIGMOID_MAX)), vf_set(SIGMOID_MAX));
    return vf_mul(y, vf_gather(sigmoid, vi_round(place)));
}

INLINE vi rounded(vf x, vf factor, vi zero) {
    vi code = vi_add(vi_round(vf_mul(x, factor)), zero);
    return vi_min(vi_max(code, vi_set(0)), vi_set(255));
}

INLINE vf rest(vf x, const Rounding *r) {
    vi zero = vi_set(r->zero), code = rounded(x, vf_set(r->factor), zero);
    vf meant = vf_mul(vi_float(vi_sub(code, zero)), vf_set(r->scale));
    return vf_sub(x, meant);
}

/* SiLU falls and then rises below zero, so its least value must be searched. In the bin that shares sigmoid[i] no value
 * lies below bin_least(i); bins that cannot beat the least value found so far need no look-up, and soon those are all
 * but one or two. */
INLINE float bin_edge(int i) { return ((float)i - 0.5f) * (1.0f / 64.0f); }
INLINE float bin_least(const float *sigmoid, int i) { return bin_edge(i) * sigmoid[i]; }

typedef struct {
    const float *sigmoid;
    int first, last; /* bins that may hold a smaller value than `least` */
    float least;
} Search;

static void narrow(Search *s) {
    while (s->first <= s->last && !(bin_least(s->sigmoid, s->first) < s->least)) s->first++;
    while (s->last >= s->first && !(bin_least(s->sigmoid, s->last) < s->least)) s->last--;
}

INLINE void search(Search *s, const Map *m, const float *x, int n, int c) {
    vf y = affine(m, load_some(x + c, n), c, n);
    vb inside = vb_between(y, vf_set(bin_edge(s->first)), vf_set(bin_edge(s->last + 1)));
    if (__builtin_expect(!vb_any(inside), 1)) return;
    float values[LANES];
    vf_store(values, silu(m->sigmoid, y));
    for (int i = 0; i < n; i++) s->least = values[i] < s->least ? values[i] : s->least;
    narrow(s);
}

/* The last bin reaches to minus infinity: the caller has its least value already, in `low`. */
static float pass_silu_low(const Map *m, const float *x, long pixels, float low) {
    Search s = {m->sigmoid, 1 - SIGMOID_MAX, 0, low};
    narrow(&s);
    for (long p = 0; p < pixels && s.first <= s.last; p++, x += m->channels) {
        int c = 0;
        for (; c + LANES <= m->channels; c += LANES) search(&s, m, x, LANES, c);
        if (c < m->channels) search(&s, m, x, m->channels - c, c);
    }
    return s.least;
}

INLINE void put(uint8_t *out, vi code, vi zero, int n) {
#if WORD == 4
    (void)zero;
    n >= LANES ? vi_store8(out, code) : vi_store8_first(out, code, n);
#else
    code = vi_sub(code, zero);
    n >= LANES ? vi_store16(out, code) : vi_store16_first(out, code, n);
#endif
}

INLINE void codes_of(const Map *m, Mode mode, const float *x, long pixels, const Rounding *to, uint8_t *out, long pitch) {
    vf factor = vf_set(to->factor);
    vi zero = vi_set(to->zero);
    for (long p = 0; p < pixels; p++, x += m->channels, out += pitch) {
        for (int c = 0; c < m->channels; c += LANES) {
            int n = m->channels - c;
            vf v = load_some(x + c, n);
            if (mode == AFFINE || mode == SILU) v = affine(m, v, c, n);
            if (mode == SILU) v = silu(m->sigmoid, v);
            if (mode == REST) v = rest(v, &m->coarse);
            put(out + c * (4 / WORD), rounded(v, factor, zero), zero, n);
        }
    }
}

static void pass_codes(const Map *m, const float *x, long pixels, const Rounding *to, uint8_t *out, long pitch) {
    switch (m->mode) {
    case PLAIN: codes_of(m, PLAIN, x, pixels, to, out, pitch); break;
    case AFFINE: codes_of(m, AFFINE, x, pixels, to, out, pitch); break;
    case SILU: codes_of(m, SILU, x, pixels, to, out, pitch); break;
    case REST: codes_of(m, REST, x, pixels, to, out, pitch); break;
    }
}

static void pass_coarse(int channels, const float *x, long pixels, const Rounding *to, uint8_t *out, long pitch,
                        float *range) {
    vf factor = vf_set(to->factor), scale = vf_set(to->scale), low = vf_set(range[0]), high = vf_set(range[1]);
    vi zero = vi_set(to->zero);
    for (long p = 0; p < pixels; p++, x += channels, out += pitch) {
        for (int c = 0; c < channels; c += LANES) {
            int n = channels - c;
            vf v = load_some(x + c, n);
            vi code = rounded(v, factor, zero);
            vf left = vf_sub(v, vf_mul(vi_float(vi_sub(code, zero)), scale));
            /* Lanes past the end hold 0, whose code means 0: they leave 0, which every range includes. */
            low = vf_min(low, left), high = vf_max(high, left);
            put(out + c * (4 / WORD), code, zero, n);
        }
    }
    range[0] = vf_lowest(low), range[1] = vf_highest(high);
}

/* Philox4x32-10 (noise.py) for counters first, first + 1, ..., each giving eight values of the table. */
static void pass_normal(uint32_t first, long blocks, const uint32_t *fixed, const uint32_t *key, const float *table,
                        float *out) {
    for (long start = 0; start < blocks; start += LANES) {
        uint32_t x0[LANES], x1[LANES], x2[LANES], x3[LANES];
        for (int i = 0; i < LANES; i++)
            x0[i] = first + (uint32_t)(start + i), x1[i] = fixed[0], x2[i] = fixed[1], x3[i] = fixed[2];
        uint32_t k0 = key[0], k1 = key[1];
        for (int turn = 0; turn < 10; turn++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
            for (int i = 0; i < LANES; i++) {
                uint64_t p0 = (uint64_t)x0[i] * 0xD2511F53u, p1 = (uint64_t)x2[i] * 0xCD9E8D57u;
                x0[i] = (uint32_t)(p1 >> 32) ^ x1[i] ^ k0, x1[i] = (uint32_t)p1;
                x2[i] = (uint32_t)(p0 >> 32) ^ x3[i] ^ k1, x3[i] = (uint32_t)p0;
            }
        int many = blocks - start < LANES ? (int)(blocks - start) : LANES;
        for (int i = 0; i < many; i++) {
            const uint32_t words[4] = {x0[i], x1[i], x2[i], x3[i]};
            for (int w = 0; w < 4; w++, out += 2) out[0] = table[words[w] & 0xffff], out[1] = table[words[w] >> 16];
        }
    }
}
