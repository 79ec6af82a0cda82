/* Convolution in register tiles: G groups of GROUP neighbouring pixels times B blocks of LANES output channels. */
#include "groups.h"

INLINE void tile(const Conv *c, const Spot *spots, int many, const uint8_t *w, long size, int block, const int G,
                 const int B, Bounds *bounds) {
    vi acc[6 * GROUP][3];
    const uint8_t *a[6];
    long near = c->pixel * c->stride, words = c->kernel * c->pixel / 4;
#pragma GCC unroll 24
    for (int p = 0; p < G * GROUP; p++)
#pragma GCC unroll 3
        for (int b = 0; b < B; b++) acc[p][b] = vi_set(0);
    for (int y = 0; y < c->kernel; y++) {
#pragma GCC unroll 6
        for (int g = 0; g < G; g++) a[g] = spots[g < many ? g : 0].codes + y * c->row;
#pragma GCC unroll 1
        for (long k = 0; k < words; k++, w += 4 * LANES) {
            vi weight[3];
#pragma GCC unroll 3
            for (int b = 0; b < B; b++) weight[b] = vi_load(w + b * size);
#pragma GCC unroll 6
            for (int g = 0; g < G; g++) {
#pragma GCC unroll 4
                for (int p = 0; p < GROUP; p++) {
                    vi word = vi_word(a[g] + p * near);
#pragma GCC unroll 3
                    for (int b = 0; b < B; b++) acc[g * GROUP + p][b] = vi_dot(acc[g * GROUP + p][b], word, weight[b]);
                }
                a[g] += 4;
            }
        }
    }
    vi sums[6 * GROUP][3];
#pragma GCC unroll 24
    for (int p = 0; p < G * GROUP; p++)
#pragma GCC unroll 3
        for (int b = 0; b < B; b++) sums[p][b] = acc[p][b];
    for (int g = 0; g < G && g < many; g++)
        for (int b = 0; b < B; b++) finish(c, spots + g, block + b, &sums[g * GROUP][b], 3, GROUP, bounds);
}

#define TILES(G, B)                                                                                                   \
    static void tiles_##B(const Conv *c, const Spot *spots, int count, const uint8_t *w, long size, int block,        \
                          Bounds *bounds) {                                                                           \
        for (int i = 0; i < count; i += G)                                                                            \
            tile(c, spots + i, count - i < G ? count - i : G, w, size, block, G, B, bounds);                          \
    }
TILES(GROUPS_1, 1)
TILES(GROUPS_2, 2)
TILES(GROUPS_3, 3)

/* How many blocks go together next, so that none is left alone. */
static int together(int left) {
    if (left <= 2) return left;
    return left % WIDEST == 0 ? WIDEST : 5 - WIDEST;
}

static void pass_conv(const Conv *c, long first, long last) {
    int blocks = (c->outputs + LANES - 1) / LANES;
    long size = (long)c->kernel * c->kernel * c->pixel * LANES;
    Spot spots[SPOTS];
    for (; first < last; first += SPOTS) {
        int count = locate(c, first, first + SPOTS < last ? first + SPOTS : last, GROUP, spots);
        Bounds bounds = {vf_set(0), vf_set(0), spots[0].sample};
        for (int block = 0, many; block < blocks; block += many) {
            many = together(blocks - block);
            const uint8_t *w = c->weights + block * size;
            if (many == 1) tiles_1(c, spots, count, w, size, block, &bounds);
            if (many == 2) tiles_2(c, spots, count, w, size, block, &bounds);
            if (many == 3) tiles_3(c, spots, count, w, size, block, &bounds);
        }
        flush(c, &bounds);
    }
}

#define LEVEL(NAME)                                                                                               \
    const Level NAME = {LANES,       WORD,        GROUP,       1,         pass_range, pass_sums, pass_silu_low,     \
                        pass_codes,  pass_coarse, pass_conv,   pass_normal};
