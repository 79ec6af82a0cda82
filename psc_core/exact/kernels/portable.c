/* Four lanes in the vector extensions of GCC and Clang, for any processor. */
#include <string.h>

#include "psc.h"

#define LANES 4
#define WORD 2
#define GROUPS_1 2
#define GROUPS_2 1
#define GROUPS_3 1
#define WIDEST 2

typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef vi vb;

#define vf_add(a, b) ((a) + (b))
#define vf_sub(a, b) ((a) - (b))
#define vf_mul(a, b) ((a) * (b))
#define vi_add(a, b) ((a) + (b))
#define vi_sub(a, b) ((a) - (b))
#define vi_mul(a, b) ((a) * (b))
#define vi_float(i) __builtin_convertvector(i, vf)
#define vb_between(v, a, b) (((v) >= (a)) & ((v) <= (b)))
#define vb_any(m) ((m)[0] | (m)[1] | (m)[2] | (m)[3])

static inline vf vf_set(float v) { return (vf){v, v, v, v}; }
static inline vi vi_set(int32_t v) { return (vi){v, v, v, v}; }
static inline vf vf_load(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline vf vf_load_first(const float *p, int n) {
    vf v = {0, 0, 0, 0};
    memcpy(&v, p, n * sizeof *p);
    return v;
}
static inline void vf_store(float *p, vf v) { memcpy(p, &v, sizeof v); }
static inline void vf_store_first(float *p, vf v, int n) { memcpy(p, &v, n * sizeof *p); }
static inline vi vi_load(const void *p) {
    vi v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void vi_store(int32_t *p, vi v) { memcpy(p, &v, sizeof v); }
static inline vi vi_word(const uint8_t *p) {
    int32_t word;
    memcpy(&word, p, sizeof word);
    return vi_set(word);
}
static inline vf vf_choose(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
static inline vi vi_choose(vi mask, vi a, vi b) { return (mask & a) | (~mask & b); }
static inline vf vf_min(vf a, vf b) { return vf_choose(a < b, a, b); }
static inline vf vf_max(vf a, vf b) { return vf_choose(a > b, a, b); }
static inline vi vi_min(vi a, vi b) { return vi_choose(a < b, a, b); }
static inline vi vi_max(vi a, vi b) { return vi_choose(a > b, a, b); }
static inline float smaller(float a, float b) { return a < b ? a : b; }
static inline float larger(float a, float b) { return a > b ? a : b; }
static inline float vf_lowest(vf v) { return smaller(smaller(v[0], v[1]), smaller(v[2], v[3])); }
static inline float vf_highest(vf v) { return larger(larger(v[0], v[1]), larger(v[2], v[3])); }
static inline vf vf_gather(const float *table, vi i) { return (vf){table[i[0]], table[i[1]], table[i[2]], table[i[3]]}; }

/* Half to even: 1.5 x 2^23 pushes the fraction out. Right below 2^22, which every rounded value is. */
static inline vi vi_round(vf v) {
    vf pushed = v + vf_set(12582912.0f);
    return __builtin_convertvector(pushed - vf_set(12582912.0f), vi);
}
static inline vi vi_pair(vi low, vi high) { return (low & vi_set(0xffff)) | (high << 16); }

#if defined(__SSE2__)
#include <emmintrin.h>
#define vi_dot16(sum, a, b) ((sum) + (vi)_mm_madd_epi16((__m128i)(a), (__m128i)(b)))
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
static inline vi vi_dot16(vi sum, vi a, vi b) {
    int16x8_t x = (int16x8_t)a, y = (int16x8_t)b;
    int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(y)), high = vmull_high_s16(x, y);
    return sum + (vi)vpaddq_s32(low, high);
}
#else
static inline vi vi_dot16(vi sum, vi a, vi b) { return sum + ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16); }
#endif
#define vi_dot(sum, codes, weights) vi_dot16(sum, codes, weights)

static inline void vi_store16_first(void *p, vi v, int n) {
    int16_t all[LANES] = {(int16_t)v[0], (int16_t)v[1], (int16_t)v[2], (int16_t)v[3]};
    memcpy(p, all, 2 * n);
}
static inline void vi_store16(void *p, vi v) { vi_store16_first(p, v, LANES); }

#include "tile.h"

LEVEL(psc_portable)
