/* The few source rows that an output row needs become one row of 16-bit numbers. Two taps are one instruction: multiply
 * and add pairs. */
#include <string.h>

#include "resample_parts.h"
#include "vectors.h"

#if CODEC_AVX2
#include <immintrin.h>
#endif

static void sum_rows(const struct row_sum *task)
{
    for (size_t i = 0; i < task->length; i++) {
        int32_t sum = 1 << (ROWS_SHIFT - 1);
        for (unsigned tap = 0; tap < task->count; tap++)
            sum += task->weights[tap] * task->rows[tap][i];
        task->sums[i] = (int16_t)(sum >> ROWS_SHIFT);
    }
}

#if CODEC_AVX2
enum { FEW = 4 };

/* 32 bytes of two rows times their weights, onto four sums of eight 32-bit numbers. */
AVX2_INLINE void add_pair(__m256i sums[4], const uint8_t *row, const uint8_t *next, const int16_t *pair)
{
    int32_t both;
    memcpy(&both, pair, sizeof both);
    const __m256i zero = _mm256_setzero_si256(), weights = _mm256_set1_epi32(both);
    __m256i a = _mm256_loadu_si256((const __m256i *)row), b = _mm256_loadu_si256((const __m256i *)next);
    __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
    sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(_mm256_unpacklo_epi8(low, zero), weights));
    sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(_mm256_unpackhi_epi8(low, zero), weights));
    sums[2] = _mm256_add_epi32(sums[2], _mm256_madd_epi16(_mm256_unpacklo_epi8(high, zero), weights));
    sums[3] = _mm256_add_epi32(sums[3], _mm256_madd_epi16(_mm256_unpackhi_epi8(high, zero), weights));
}

/* Unpacking and packing both work within 128-bit halves, which therefore come out in order after one exchange. */
AVX2_INLINE void store_sums(const __m256i sums[4], int16_t *out)
{
    __m256i low = _mm256_packs_epi32(_mm256_srai_epi32(sums[0], ROWS_SHIFT), _mm256_srai_epi32(sums[1], ROWS_SHIFT));
    __m256i high = _mm256_packs_epi32(_mm256_srai_epi32(sums[2], ROWS_SHIFT), _mm256_srai_epi32(sums[3], ROWS_SHIFT));
    _mm256_storeu_si256((__m256i *)out, _mm256_permute2x128_si256(low, high, 0x20));
    _mm256_storeu_si256((__m256i *)(out + 16), _mm256_permute2x128_si256(low, high, 0x31));
}

AVX2_INLINE void sum_blocks(const struct row_sum *task, const uint8_t *const *rows, const int16_t *weights,
                            unsigned count)
{
    const __m256i half = _mm256_set1_epi32(1 << (ROWS_SHIFT - 1));
    for (size_t i = 0; i < task->length; i += PLANE_ALIGNMENT) {
        __m256i sums[4] = {half, half, half, half};
        for (unsigned tap = 0; tap < count; tap += 2)
            add_pair(sums, rows[tap] + i, rows[tap + 1] + i, weights + tap);
        store_sums(sums, task->sums + i);
    }
}

/* `count` is a constant: copies stay in registers, whereas storing sums might change what the task points to. */
AVX2_INLINE void sum_few(const struct row_sum *task, unsigned count)
{
    const uint8_t *rows[FEW];
    int16_t weights[FEW];
    memcpy(rows, task->rows, count * sizeof *rows);
    memcpy(weights, task->weights, count * sizeof *weights);
    sum_blocks(task, rows, weights, count);
}

AVX2_FUNCTION static void sum_rows_avx2(const struct row_sum *task)
{
    if (task->count == 2)
        sum_few(task, 2);
    else if (task->count == FEW)
        sum_few(task, FEW);
    else
        sum_blocks(task, task->rows, task->weights, task->count);
}
#endif

void resample_sum_rows(const struct row_sum *task)
{
#if CODEC_AVX2
    if (has_avx2()) {
        sum_rows_avx2(task);
        return;
    }
#endif
    sum_rows(task);
}
