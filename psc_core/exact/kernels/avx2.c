/* 16-bit products: with 8-bit ones and without VNNI, sums of two saturate. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif
#include <string.h>

#include "psc.h"
#include "ymm.h"

#define WORD 2
#define GROUPS_1 2
#define GROUPS_2 1
#define GROUPS_3 1
#define WIDEST 2
#define vi_dot(sum, codes, weights) _mm256_add_epi32(sum, _mm256_madd_epi16(codes, weights))

#include "tile.h"

LEVEL(psc_avx2)

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
