/* The integer layers of integers.py, bit for bit. Every float operation is one IEEE-754 operation in the order of the
 * reference: compile without contraction and without fast-math.
 *
 * Everything that depends on the instruction set is serial and sits behind a Level; psc.c and conv.c thread it. */
#ifndef PSC_H
#define PSC_H

#include <stdint.h>

/* Which levels the compiler can make: those of the newest instructions need their intrinsics. */
#if defined(__x86_64__)
#define HAS_X86
#if __has_include(<avxvnniintrin.h>)
#define HAS_AVXVNNI
#endif
#if defined(__linux__) && (__has_include(<amxint8intrin.h>) || __has_include(<amxintrin.h>))
#define HAS_AMX
#endif
#endif

enum { GROUP = 4 /* neighbouring output pixels that a register tile handles together */, SIGMOID_MAX = 1023 };

/* How codes are made from values: code = round(value factor) + zero; value is about (code - zero) scale. */
typedef struct {
    float factor, scale;
    int32_t zero;
} Rounding;

typedef enum {
    PLAIN,  /* x */
    AFFINE, /* x gain + shift, a channel */
    SILU,   /* the same, times its sigmoid */
    REST,   /* x minus what the codes of `coarse` mean */
} Mode;

typedef struct {
    Mode mode;
    int channels;
    const float *gain, *shift, *sigmoid; /* sigmoid: the entry of 0, SIGMOID_MAX more on either side */
    Rounding coarse;
} Map;

typedef struct {
    const uint8_t *codes;          /* padded activations: bytes, see Padded in psc.c */
    long pixel, row, sample;       /* bytes between neighbours of each kind */
    int kernel, stride, outputs;
    long groups_row, rows, width;  /* output: groups a row, rows a sample, pixels a row */
    const float *scale;            /* a sample */
    const int32_t *zero;           /* a sample; NULL if the codes have lost theirs */
    const uint8_t *weights;        /* [blocks][kernel][kernel x words a pixel, in whole runs][lanes][4 bytes] */
    const int32_t *weight_sums;    /* per-output parameters are padded to whole blocks */
    const float *weight_scale, *bias, *residual;
    float *out;
    float *range;                  /* [sample][smallest, largest] of out: the groups' own, merged by the caller */
} Conv;

typedef struct {
    int lanes; /* output channels a block */
    int word;  /* input channels a 32-bit word: 4 (uint8 codes) or 2 (int16, their zero subtracted) */
    int group; /* neighbouring output pixels that go together, at most */
    int run;   /* a kernel's row of weights is padded with zeros to whole runs of so many words */
    /* smallest and largest, merged into range[2] */
    void (*range)(const float *x, long count, float *range);
    /* a channel: sum of t, of t^2 (t = round(x factor)), smallest and largest x; added to what is there */
    void (*sums)(const float *x, long pixels, int channels, float factor, int64_t *first, int64_t *second, float *low,
                 float *high);
    /* the smallest value under a SILU map, or `low` if that is smaller */
    float (*silu_low)(const Map *map, const float *x, long pixels, float low);
    void (*codes)(const Map *map, const float *x, long pixels, const Rounding *to, uint8_t *out, long pitch);
    /* codes of x, and the range of what they leave */
    void (*coarse)(int channels, const float *x, long pixels, const Rounding *to, uint8_t *out, long pitch, float *range);
    /* output groups first..last of c; range is merged into low_high[2] of each sample with merge_range */
    void (*conv)(const Conv *c, long first, long last);
    void (*normal)(uint32_t first, long blocks, const uint32_t *fixed, const uint32_t *key, const float *table, float *out);
} Level;

extern const Level psc_portable, psc_avx2, psc_avxvnni, psc_avx512vnni, psc_amx;
const Level *psc_at(int level);

/* Whether the system lets this process use tiles from now on. */
int psc_tiles_granted(void);

/* Merge into a range that other threads merge into as well. */
void psc_merge_range(float *range, float low, float high);

#endif
