#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#endif
#include "psc.h"
#include "zmm.h"

#define GROUPS_1 6
#define GROUPS_2 3
#define GROUPS_3 2
#define WIDEST 2

#include "tile.h"

LEVEL(psc_avx512vnni)

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
