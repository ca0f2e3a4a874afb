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

void codec_to_rgb(const uint8_t *y, const uint8_t *cb, const uint8_t *cr, uint8_t *rgb, size_t count)
{
    for (size_t i = 0; i < count; i++, rgb += 3) {
        int blue = cb[i] - CENTRE, red = cr[i] - CENTRE;
        rgb[0] = clamp(y[i] + ((F_1_402 * red + HALF) >> BITS));
        rgb[1] = clamp(y[i] + ((-F_0_344 * blue - F_0_714 * red + HALF) >> BITS));
        rgb[2] = clamp(y[i] + ((F_1_772 * blue + HALF) >> BITS));
    }
}

void codec_grey_to_rgb(const uint8_t *y, uint8_t *rgb, size_t count)
{
    for (size_t i = 0; i < count; i++, rgb += 3)
        rgb[0] = rgb[1] = rgb[2] = y[i];
}

#if CODEC_AVX2
#define INLINE AVX2_FUNCTION static inline __attribute__((always_inline))

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

/* Sixteen pixels lie in each half of a vector: first those of even number, then those of odd number. */
struct planes {
    __m256i red, green, blue;
};

/* Where the bytes of a colour go in the `part`-th 16 of 48 bytes; `colour` 0 to 2. Others are zero. */
INLINE __m256i spread(__m256i bytes, int part, int colour)
{
    char places[LANES];
    for (int i = 0; i < LANES; i++) {
        int at = LANES * part + i, pixel = at / 3;
        places[i] = (char)(at % 3 == colour ? pixel / 2 + pixel % 2 * 8 : -1);
    }
    __m128i half;
    memcpy(&half, places, sizeof half);
    return _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(half));
}

INLINE __m256i interleave(struct planes planes, int part)
{
    return _mm256_or_si256(_mm256_or_si256(spread(planes.red, part, 0), spread(planes.green, part, 1)),
                           spread(planes.blue, part, 2));
}

/* 32 pixels. */
INLINE void store_rgb(uint8_t *rgb, struct planes planes)
{
    __m256i parts[3] = {interleave(planes, 0), interleave(planes, 1), interleave(planes, 2)};
    for (int i = 0; i < 3; i++) {
        _mm_storeu_si128((__m128i *)(rgb + LANES * i), _mm256_castsi256_si128(parts[i]));
        _mm_storeu_si128((__m128i *)(rgb + LANES * (3 + i)), _mm256_extracti128_si256(parts[i], 1));
    }
}

/* value * factor / 2^16, rounded, where |value| <= 128 and |factor| < 2^15. */
INLINE __m256i scale(__m256i value, int factor)
{
    __m256i twice = _mm256_mulhi_epi16(_mm256_add_epi16(value, value), _mm256_set1_epi16((short)factor));
    return _mm256_srai_epi16(_mm256_add_epi16(twice, _mm256_set1_epi16(1)), 1);
}

/* Sixteen values in 16 bits each; the factors beyond 2^15 are taken apart, as jdcolext-avx2.asm does. */
INLINE struct planes convert(__m256i y, __m256i cb, __m256i cr)
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
    return (struct planes){_mm256_add_epi16(y, red), _mm256_add_epi16(y, _mm256_sub_epi16(green, cr)),
                           _mm256_add_epi16(y, blue)};
}

INLINE __m256i evens(__m256i bytes)
{
    return _mm256_and_si256(bytes, _mm256_set1_epi16(0xFF));
}

INLINE __m256i odds(__m256i bytes)
{
    return _mm256_srli_epi16(bytes, 8);
}

INLINE __m256i load_bytes(const uint8_t *bytes)
{
    return _mm256_loadu_si256((const __m256i *)bytes);
}

INLINE struct planes convert_32(const uint8_t *y, const uint8_t *cb, const uint8_t *cr)
{
    __m256i luma = load_bytes(y), blue = load_bytes(cb), red = load_bytes(cr);
    struct planes even = convert(evens(luma), evens(blue), evens(red));
    struct planes odd = convert(odds(luma), odds(blue), odds(red));
    return (struct planes){_mm256_packus_epi16(even.red, odd.red), _mm256_packus_epi16(even.green, odd.green),
                           _mm256_packus_epi16(even.blue, odd.blue)};
}

INLINE struct planes grey_32(const uint8_t *y)
{
    __m256i luma = load_bytes(y), sorted = _mm256_packus_epi16(evens(luma), odds(luma));
    return (struct planes){sorted, sorted, sorted};
}

/* The last pixels, through a buffer: nothing is written behind them. */
INLINE void store_last(uint8_t *rgb, struct planes planes, size_t count)
{
    uint8_t last[3 * VECTOR];
    store_rgb(last, planes);
    memcpy(rgb, last, 3 * count);
}

AVX2_FUNCTION void codec_to_rgb_avx2(const uint8_t *y, const uint8_t *cb, const uint8_t *cr, uint8_t *rgb,
                                     size_t count)
{
    size_t i = 0;
    for (; i + VECTOR <= count; i += VECTOR)
        store_rgb(rgb + 3 * i, convert_32(y + i, cb + i, cr + i));
    if (i < count)
        store_last(rgb + 3 * i, convert_32(y + i, cb + i, cr + i), count - i);
}

AVX2_FUNCTION void codec_grey_to_rgb_avx2(const uint8_t *y, uint8_t *rgb, size_t count)
{
    size_t i = 0;
    for (; i + VECTOR <= count; i += VECTOR)
        store_rgb(rgb + 3 * i, grey_32(y + i));
    if (i < count)
        store_last(rgb + 3 * i, grey_32(y + i), count - i);
}
#endif
