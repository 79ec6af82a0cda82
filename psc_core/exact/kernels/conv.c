/* Threaded convolution, nearest-neighbour doubling of codes, and noise. */
#include <string.h>

#include "psc.h"

void psc_conv(int level, const Conv *c, long samples, int threads) {
    const Level *at = psc_at(level);
    /* Multiples of every tile's groups; enough pieces to share, large enough to use the cached weights well. */
    long total = samples * c->rows * c->groups_row, most = 384 / at->group, piece = total / (4 * threads) / 6 * 6;
    piece = piece < 6 ? 6 : piece > most ? most : piece;
    memset(c->range, 0, 2 * samples * sizeof(float));
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (long first = 0; first < total; first += piece)
        at->conv(c, first, first + piece < total ? first + piece : total);
}

/* codes (N, H + 2, W + 2) pixels with a border -> (N, 2 H + 2, 2 W + 2); each border is its own sample's */
void psc_upsample(const uint8_t *codes, long samples, long height, long width, long pixel, uint8_t *out, int threads) {
    long line = (width + 2) * pixel, wide = (2 * width + 2) * pixel;
#pragma omp parallel for num_threads(threads) collapse(2) schedule(static)
    for (long n = 0; n < samples; n++)
        for (long y = 0; y < height + 2; y++) { /* rows of the input: border, height, border */
            const uint8_t *from = codes + (n * (height + 2) + y) * line;
            uint8_t *to = out + (n * (2 * height + 2) + (y ? 2 * y - 1 : 0)) * wide;
            memcpy(to, from, pixel);
            for (long x = 0; x < 2 * width; x++) memcpy(to + (x + 1) * pixel, from + (x / 2 + 1) * pixel, pixel);
            memcpy(to + wide - pixel, from, pixel);
            if (y && y <= height) memcpy(to + wide, to, wide);
        }
}

/* out (blocks, 8) for counter words (0.., fixed) */
void psc_normal(int level, long blocks, const uint32_t *fixed, const uint32_t *key, const float *table, float *out,
                int threads) {
    const Level *at = psc_at(level);
    long run = 1 << 12;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long first = 0; first < blocks; first += run)
        at->normal((uint32_t)first, blocks - first < run ? blocks - first : run, fixed, key, table, out + 8 * first);
}
