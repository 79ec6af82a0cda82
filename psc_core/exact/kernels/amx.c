/* Tile matrix multiplication (Intel AMX): 16 pixels x 64 bytes times 64 bytes x 16 output channels an instruction. */
#include "psc.h"

#if defined(HAS_AMX)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,amx-tile,amx-int8"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,amx-tile,amx-int8")
#endif
#include "zmm.h"

#include "groups.h"

enum { ROWS = 16 /* pixels, or words of weights, a tile */, BYTES = 64 /* a row of a tile */ };

typedef struct { /* what LDTILECFG reads */
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} Shape;

/* Tiles 0 to 3: sums of two groups times two blocks; 4 and 5: codes of the groups; 6 and 7: weights of the blocks. */
static void shape_tiles(int pixels) {
    Shape shape = {.palette = 1};
    for (int i = 0; i < 8; i++) shape.bytes[i] = BYTES, shape.rows[i] = i < 6 ? pixels : ROWS;
    __asm__ volatile("" ::: "memory"); /* some compilers think that only eight bytes of it are read */
    _tile_loadconfig(&shape);
}

/* Two groups (the second may be none) times B blocks. */
INLINE void pair(const Conv *c, const Spot *spots, int many, const uint8_t *w, long size, int block, const int B,
                 Bounds *bounds) {
    vi sums[4][ROWS];
    const uint8_t *one = spots[0].codes, *two = spots[many > 1].codes;
    long near = c->pixel * c->stride, line = c->kernel * c->pixel;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int y = 0; y < c->kernel; y++, one += c->row, two += c->row)
        for (long k = 0; k < line; k += BYTES, w += ROWS * BYTES) {
            _tile_loadd(4, one + k, near);
            _tile_loadd(5, two + k, near);
            _tile_loadd(6, w, BYTES);
            _tile_dpbusd(0, 4, 6);
            _tile_dpbusd(2, 5, 6);
            if (B < 2) continue;
            _tile_loadd(7, w + size, BYTES);
            _tile_dpbusd(1, 4, 7);
            _tile_dpbusd(3, 5, 7);
        }
    _tile_stored(0, sums[0], BYTES);
    _tile_stored(2, sums[2], BYTES);
    if (B > 1) {
        _tile_stored(1, sums[1], BYTES);
        _tile_stored(3, sums[3], BYTES);
    }
    for (int g = 0; g < 2 && g < many; g++)
        for (int b = 0; b < B; b++) finish(c, spots + g, block + b, sums[2 * g + b], 1, ROWS, bounds);
}

static void pass_conv(const Conv *c, long first, long last) {
    int blocks = (c->outputs + LANES - 1) / LANES, pixels = (int)((c->width + c->groups_row - 1) / c->groups_row);
    long runs = (c->kernel * c->pixel + BYTES - 1) / BYTES, size = c->kernel * runs * ROWS * BYTES;
    Spot spots[SPOTS];
    shape_tiles(pixels);
    for (; first < last; first += SPOTS) {
        int count = locate(c, first, first + SPOTS < last ? first + SPOTS : last, pixels, spots);
        Bounds bounds = {vf_set(0), vf_set(0), spots[0].sample};
        for (int block = 0; block < blocks; block += 2) {
            const uint8_t *w = c->weights + block * size;
            for (int i = 0; i < count; i += 2) {
                if (block + 1 < blocks) pair(c, spots + i, count - i, w, size, block, 2, &bounds);
                else pair(c, spots + i, count - i, w, size, block, 1, &bounds);
            }
        }
        flush(c, &bounds);
    }
    _tile_release();
}

const Level psc_amx = {LANES,         WORD,       ROWS,        ROWS,      pass_range, pass_sums,
                       pass_silu_low, pass_codes, pass_coarse, pass_conv, pass_normal};

#if defined(__clang__)
#pragma clang attribute pop
#endif

/* ---- permission ---- */

#include <sys/syscall.h>
#include <unistd.h>

enum { REQUEST = 0x1023 /* ARCH_REQ_XCOMP_PERM */, TILES = 18 /* XFEATURE_XTILEDATA */ };

int psc_tiles_granted(void) { return syscall(SYS_arch_prctl, REQUEST, TILES) == 0; }
#endif
