/* Groups of neighbouring output pixels: where they are, and what becomes of their sums. */
#include "passes.h"

enum { SPOTS = 96 /* groups a pass: their activations stay cached while every block of weights passes over them */ };

typedef struct { /* a group of output pixels */
    const uint8_t *codes;
    long pixel, sample;
    int count;
} Spot;

typedef struct {
    vf low, high;
    long sample;
} Bounds;

static void flush(const Conv *c, Bounds *b) {
    psc_merge_range(c->range + 2 * b->sample, vf_lowest(b->low), vf_highest(b->high));
    b->low = b->high = vf_set(0);
}

/* sum -> float, x (activation scale x weight scale), + bias, + residual */
INLINE void finish(const Conv *c, const Spot *s, int block, const vi *sums, int step, const int most, Bounds *b) {
    int first = block * LANES, left = c->outputs - first;
    vf factor = vf_mul(vf_set(c->scale[s->sample]), vf_load(c->weight_scale + first)), bias = vf_load(c->bias + first);
    vi offset = WORD == 4 ? vi_mul(vi_set(c->zero[s->sample]), vi_load(c->weight_sums + first)) : vi_set(0);
    long at = s->pixel * c->outputs + first;
    if (s->sample != b->sample) flush(c, b), b->sample = s->sample;
#pragma GCC unroll 4
    for (int p = 0; p < most; p++, at += c->outputs) {
        if (p >= s->count) return;
        vf value = vf_mul(vi_float(vi_sub(sums[p * step], offset)), factor);
        value = vf_add(value, bias);
        if (c->residual) value = vf_add(value, load_some(c->residual + at, left));
        b->low = vf_min(b->low, value), b->high = vf_max(b->high, value);
        left >= LANES ? vf_store(c->out + at, value) : vf_store_first(c->out + at, value, left);
    }
}

/* Groups first..last of c, each of `most` pixels or what is left of its row. */
static int locate(const Conv *c, long first, long last, int most, Spot *spots) {
    int count = 0;
    for (long g = first; g < last; g++) {
        long line = g / c->groups_row, x = g % c->groups_row * most, n = line / c->rows, y = line % c->rows;
        const uint8_t *codes = c->codes + n * c->sample + y * c->stride * c->row + x * c->stride * c->pixel;
        int many = c->width - x < most ? (int)(c->width - x) : most;
        spots[count++] = (Spot){codes, line * c->width + x, n, many};
    }
    return count;
}
