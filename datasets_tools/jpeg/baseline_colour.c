/* From samples to pixels, a row at a time, equal to libjpeg-turbo's fancy upsampling and its integer YCbCr to RGB. */
#include <string.h>

#include "baseline_parts.h"

#if CODEC_AVX2
#include <immintrin.h>
#endif

/* Times 2^16; JFIF's matrix. Source: libjpeg's jdcolor.c. */
enum { F_1_402 = 91881, F_1_772 = 116130, F_0_714 = 46802, F_0_344 = 22554, HALF = 1 << 15, BITS = 16, CENTRE = 128 };

/* Rounds halves alternately down and up, as jdsample.c does. */
void codec_widen(const uint8_t *in, uint8_t *out, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int sample = 3 * in[i];
        out[2 * i] = (uint8_t)((sample + in[(ptrdiff_t)i - 1] + 1) >> 2);
        out[2 * i + 1] = (uint8_t)((sample + in[i + 1] + 2) >> 2);
    }
}

void codec_between(const uint8_t *near, const uint8_t *far, unsigned bias, uint8_t *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = (uint8_t)((3u * near[i] + far[i] + bias) >> 2);
}

void codec_widen_between(const uint8_t *near, const uint8_t *far, uint8_t *out, size_t count)
{
    int last = 3 * near[-1] + far[-1], sum = 3 * near[0] + far[0];
    for (size_t i = 0; i < count; i++) {
        int next = 3 * near[i + 1] + far[i + 1];
        out[2 * i] = (uint8_t)((3 * sum + last + 8) >> 4);
        out[2 * i + 1] = (uint8_t)((3 * sum + next + 7) >> 4);
        last = sum;
        sum = next;
    }
}

static uint8_t clamp(int value)
{
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

void codec_to_planes(const uint8_t *y, const uint8_t *cb, const uint8_t *cr, uint8_t *row, unsigned width)
{
    size_t pitch = plane_pitch(width);
    for (size_t i = 0; i < width; i++) {
        int blue = cb[i] - CENTRE, red = cr[i] - CENTRE;
        row[i] = clamp(y[i] + ((F_1_402 * red + HALF) >> BITS));
        row[pitch + i] = clamp(y[i] + ((-F_0_344 * blue - F_0_714 * red + HALF) >> BITS));
        row[2 * pitch + i] = clamp(y[i] + ((F_1_772 * blue + HALF) >> BITS));
    }
}

#if CODEC_AVX2
#define INLINE AVX2_INLINE

enum { LANES = 16 };

INLINE __m256i load_words(const uint8_t *bytes)
{
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)bytes));
}

INLINE __m256i times_3(__m256i value)
{
    return _mm256_add_epi16(value, _mm256_add_epi16(value, value));
}

/* The even and the odd results, below 256, next to each other. */
INLINE void store_pairs(uint8_t *out, __m256i even, __m256i odd)
{
    _mm256_storeu_si256((__m256i *)out, _mm256_or_si256(even, _mm256_slli_epi16(odd, 8)));
}

AVX2_FUNCTION void codec_widen_avx2(const uint8_t *in, uint8_t *out, size_t count)
{
    const __m256i one = _mm256_set1_epi16(1), two = _mm256_set1_epi16(2);
    for (size_t i = 0; i < count; i += LANES) {
        __m256i sample = times_3(load_words(in + i));
        __m256i last = _mm256_add_epi16(load_words(in + i - 1), one);
        __m256i next = _mm256_add_epi16(load_words(in + i + 1), two);
        store_pairs(out + 2 * i, _mm256_srli_epi16(_mm256_add_epi16(sample, last), 2),
                    _mm256_srli_epi16(_mm256_add_epi16(sample, next), 2));
    }
}

AVX2_FUNCTION void codec_between_avx2(const uint8_t *near, const uint8_t *far, unsigned bias, uint8_t *out,
                                      size_t count)
{
    const __m256i round = _mm256_set1_epi16((short)bias);
    for (size_t i = 0; i < count; i += LANES) {
        __m256i sum = _mm256_add_epi16(times_3(load_words(near + i)), load_words(far + i));
        sum = _mm256_srli_epi16(_mm256_add_epi16(sum, round), 2);
        _mm_storeu_si128((__m128i *)(out + i), _mm_packus_epi16(_mm256_castsi256_si128(sum),
                                                                _mm256_extracti128_si256(sum, 1)));
    }
}

INLINE __m256i column_sums(const uint8_t *near, const uint8_t *far)
{
    return _mm256_add_epi16(times_3(load_words(near)), load_words(far));
}

AVX2_FUNCTION void codec_widen_between_avx2(const uint8_t *near, const uint8_t *far, uint8_t *out, size_t count)
{
    const __m256i eight = _mm256_set1_epi16(8), seven = _mm256_set1_epi16(7);
    for (size_t i = 0; i < count; i += LANES) {
        __m256i sum = times_3(column_sums(near + i, far + i));
        __m256i last = _mm256_add_epi16(column_sums(near + i - 1, far + i - 1), eight);
        __m256i next = _mm256_add_epi16(column_sums(near + i + 1, far + i + 1), seven);
        store_pairs(out + 2 * i, _mm256_srli_epi16(_mm256_add_epi16(sum, last), 4),
                    _mm256_srli_epi16(_mm256_add_epi16(sum, next), 4));
    }
}

/* Of 16 samples, in 16 bits each. */
struct colours {
    __m256i red, green, blue;
};

/* value * factor / 2^16, rounded, where |value| <= 128 and |factor| < 2^15. */
INLINE __m256i scale(__m256i value, int factor)
{
    __m256i twice = _mm256_mulhi_epi16(_mm256_add_epi16(value, value), _mm256_set1_epi16((short)factor));
    return _mm256_srai_epi16(_mm256_add_epi16(twice, _mm256_set1_epi16(1)), 1);
}

/* Sixteen values in 16 bits each; the factors beyond 2^15 are taken apart, as jdcolext-avx2.asm does. */
INLINE struct colours convert(__m256i y, __m256i cb, __m256i cr)
{
    const __m256i factors = _mm256_set1_epi32((int)((uint32_t)(65536 - F_0_714) << 16 | (uint16_t)-F_0_344));
    const __m256i half = _mm256_set1_epi32(HALF);
    cb = _mm256_sub_epi16(cb, _mm256_set1_epi16(CENTRE));
    cr = _mm256_sub_epi16(cr, _mm256_set1_epi16(CENTRE));
    __m256i red = _mm256_add_epi16(cr, scale(cr, F_1_402 - 65536));
    __m256i blue = _mm256_add_epi16(_mm256_add_epi16(cb, cb), scale(cb, F_1_772 - 2 * 65536));
    __m256i low = _mm256_madd_epi16(_mm256_unpacklo_epi16(cb, cr), factors);
    __m256i high = _mm256_madd_epi16(_mm256_unpackhi_epi16(cb, cr), factors);
    __m256i green = _mm256_packs_epi32(_mm256_srai_epi32(_mm256_add_epi32(low, half), BITS),
                                       _mm256_srai_epi32(_mm256_add_epi32(high, half), BITS));
    return (struct colours){_mm256_add_epi16(y, red), _mm256_add_epi16(y, _mm256_sub_epi16(green, cr)),
                           _mm256_add_epi16(y, blue)};
}

/* The first and the last eight bytes of each half: packing puts them together again. */
INLINE __m256i first_half(__m256i bytes)
{
    return _mm256_unpacklo_epi8(bytes, _mm256_setzero_si256());
}

INLINE __m256i last_half(__m256i bytes)
{
    return _mm256_unpackhi_epi8(bytes, _mm256_setzero_si256());
}

INLINE __m256i load_bytes(const uint8_t *bytes)
{
    return _mm256_loadu_si256((const __m256i *)bytes);
}

INLINE void store_bytes(uint8_t *bytes, __m256i first, __m256i last)
{
    _mm256_storeu_si256((__m256i *)bytes, _mm256_packus_epi16(first, last));
}

AVX2_FUNCTION void codec_to_planes_avx2(const uint8_t *y, const uint8_t *cb, const uint8_t *cr, uint8_t *row,
                                        unsigned width)
{
    size_t pitch = plane_pitch(width);
    for (size_t i = 0; i < width; i += VECTOR) {
        __m256i luma = load_bytes(y + i), blue = load_bytes(cb + i), red = load_bytes(cr + i);
        struct colours first = convert(first_half(luma), first_half(blue), first_half(red));
        struct colours last = convert(last_half(luma), last_half(blue), last_half(red));
        store_bytes(row + i, first.red, last.red);
        store_bytes(row + pitch + i, first.green, last.green);
        store_bytes(row + 2 * pitch + i, first.blue, last.blue);
    }
}
#endif
