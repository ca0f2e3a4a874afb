/* Which vector instructions the loops may use. CODEC_PORTABLE is defined by tests of the plain ones. */
#ifndef CODEC_VECTORS_H
#define CODEC_VECTORS_H

#include <stdbool.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(CODEC_PORTABLE)
#define CODEC_AVX2 1
#define AVX2_FUNCTION __attribute__((target("avx2,bmi,bmi2")))
#define AVX2_INLINE AVX2_FUNCTION static inline __attribute__((always_inline))

static inline bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}
#else
#define CODEC_AVX2 0
#endif

#endif
