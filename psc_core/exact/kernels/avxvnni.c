#include "psc.h"

#if defined(HAS_AVXVNNI)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,avxvnni"))), apply_to = function)
#else
#pragma GCC target("avx2,avxvnni")
#endif
#include <string.h>

#include "ymm.h"

#define WORD 4
#define GROUPS_1 3
#define GROUPS_2 1
#define GROUPS_3 1
#define WIDEST 3
#define vi_dot(sum, codes, weights) _mm256_dpbusd_avx_epi32(sum, codes, weights)

#include "tile.h"

LEVEL(psc_avxvnni)

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
