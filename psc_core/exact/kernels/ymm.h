/* Vector operations of AVX2, for the levels that have eight lanes. */
#include <immintrin.h>

#define LANES 8

typedef __m256 vf;
typedef __m256i vi;
typedef __m256 vb;

#define first_lanes(n) _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
#define vf_load(p) _mm256_loadu_ps(p)
#define vf_load_first(p, n) _mm256_maskload_ps(p, first_lanes(n))
#define vf_store(p, v) _mm256_storeu_ps(p, v)
#define vf_store_first(p, v, n) _mm256_maskstore_ps(p, first_lanes(n), v)
#define vf_set(v) _mm256_set1_ps(v)
#define vf_add(a, b) _mm256_add_ps(a, b)
#define vf_sub(a, b) _mm256_sub_ps(a, b)
#define vf_mul(a, b) _mm256_mul_ps(a, b)
#define vf_min(a, b) _mm256_min_ps(a, b)
#define vf_max(a, b) _mm256_max_ps(a, b)
#define vf_gather(table, i) _mm256_i32gather_ps(table, i, 4)
#define vi_float(i) _mm256_cvtepi32_ps(i)
#define vb_between(v, a, b) _mm256_and_ps(_mm256_cmp_ps(v, a, _CMP_GE_OQ), _mm256_cmp_ps(v, b, _CMP_LE_OQ))
#define vb_any(m) _mm256_movemask_ps(m)
#define vi_load(p) _mm256_loadu_si256((const __m256i *)(p))
#define vi_store(p, v) _mm256_storeu_si256((__m256i *)(p), v)
#define vi_set(v) _mm256_set1_epi32(v)
#define vi_word(p) _mm256_set1_epi32(*(const int32_t *)(p))
#define vi_add(a, b) _mm256_add_epi32(a, b)
#define vi_sub(a, b) _mm256_sub_epi32(a, b)
#define vi_mul(a, b) _mm256_mullo_epi32(a, b)
#define vi_min(a, b) _mm256_min_epi32(a, b)
#define vi_max(a, b) _mm256_max_epi32(a, b)
#define vi_round(v) _mm256_cvtps_epi32(v)
#define vi_pair(low, high) _mm256_blend_epi16(low, _mm256_slli_epi32(high, 16), 0xAA)
#define vi_dot16(sum, a, b) _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))

static inline __m128i halves16(vi v) { /* eight int16, saturated */
    return _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}
static inline void vi_store16(void *p, vi v) { _mm_storeu_si128((__m128i *)p, halves16(v)); }
static inline void vi_store8(void *p, vi v) { _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(halves16(v), halves16(v))); }
static inline void vi_store16_first(void *p, vi v, int n) {
    int16_t all[LANES];
    vi_store16(all, v);
    memcpy(p, all, 2 * n);
}
static inline void vi_store8_first(void *p, vi v, int n) {
    uint8_t all[LANES];
    vi_store8(all, v);
    memcpy(p, all, n);
}
static inline float vf_lowest(vf v) {
    __m128 m = _mm_min_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_min_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_min_ss(m, _mm_movehdup_ps(m)));
}
static inline float vf_highest(vf v) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}
