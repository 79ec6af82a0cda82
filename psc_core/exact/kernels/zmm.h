/* Vector operations of AVX-512 with VNNI, for the levels that have sixteen lanes. */
#include <immintrin.h>

#define LANES 16
#define WORD 4
typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vb;

#define first_lanes(n) ((__mmask16)((1u << (n)) - 1))
#define vf_load(p) _mm512_loadu_ps(p)
#define vf_load_first(p, n) _mm512_maskz_loadu_ps(first_lanes(n), p)
#define vf_store(p, v) _mm512_storeu_ps(p, v)
#define vf_store_first(p, v, n) _mm512_mask_storeu_ps(p, first_lanes(n), v)
#define vf_set(v) _mm512_set1_ps(v)
#define vf_add(a, b) _mm512_add_ps(a, b)
#define vf_sub(a, b) _mm512_sub_ps(a, b)
#define vf_mul(a, b) _mm512_mul_ps(a, b)
#define vf_min(a, b) _mm512_min_ps(a, b)
#define vf_max(a, b) _mm512_max_ps(a, b)
#define vf_lowest(v) _mm512_reduce_min_ps(v)
#define vf_highest(v) _mm512_reduce_max_ps(v)
#define vf_gather(table, i) _mm512_i32gather_ps(i, table, 4)
#define vi_float(i) _mm512_cvtepi32_ps(i)
#define vb_between(v, a, b) (_mm512_cmp_ps_mask(v, a, _CMP_GE_OQ) & _mm512_cmp_ps_mask(v, b, _CMP_LE_OQ))
#define vb_any(m) (m)
#define vi_load(p) _mm512_loadu_si512(p)
#define vi_store(p, v) _mm512_storeu_si512(p, v)
#define vi_store8(p, v) _mm_storeu_si128((__m128i *)(p), _mm512_cvtepi32_epi8(v))
#define vi_store8_first(p, v, n) _mm512_mask_cvtepi32_storeu_epi8(p, first_lanes(n), v)
#define vi_set(v) _mm512_set1_epi32(v)
#define vi_word(p) _mm512_set1_epi32(*(const int32_t *)(p))
#define vi_add(a, b) _mm512_add_epi32(a, b)
#define vi_sub(a, b) _mm512_sub_epi32(a, b)
#define vi_mul(a, b) _mm512_mullo_epi32(a, b)
#define vi_min(a, b) _mm512_min_epi32(a, b)
#define vi_max(a, b) _mm512_max_epi32(a, b)
#define vi_round(v) _mm512_cvtps_epi32(v)
#define vi_pair(low, high) _mm512_mask_blend_epi16(0xAAAAAAAA, low, _mm512_slli_epi32(high, 16))
#define vi_dot16(sum, a, b) _mm512_dpwssd_epi32(sum, a, b)
#define vi_dot(sum, codes, weights) _mm512_dpbusd_epi32(sum, codes, weights)
