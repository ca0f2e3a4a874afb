/* The inverse DCT of two blocks, equal to libjpeg-turbo's JDCT_ISLOW with SIMD to the last bit, also where 16 bits
 * overflow: in passes over columns and rows, with constants of 13 bits.
 *
 * Source: Loeffler, Ligtenberg and Moschytz, ICASSP 1989, as in libjpeg-turbo's jidctint.c; the widths of what is
 * between as in its jidctint-sse2.asm. */
#include <string.h>

#include "baseline_parts.h"

#if CODEC_AVX2
#include <immintrin.h>
#endif

enum {
    CONST_BITS = 13,
    PASS1_BITS = 2,
    PASS1_SHIFT = CONST_BITS - PASS1_BITS,
    PASS2_SHIFT = CONST_BITS + PASS1_BITS + 3,
    CENTRE = 128
};

/* Times 2^13. */
enum {
    F_0_298 = 2446,
    F_0_390 = 3196,
    F_0_541 = 4433,
    F_0_765 = 6270,
    F_0_899 = 7373,
    F_1_175 = 9633,
    F_1_501 = 12299,
    F_1_847 = 15137,
    F_1_961 = 16069,
    F_2_053 = 16819,
    F_2_562 = 20995,
    F_3_072 = 25172
};

static int16_t saturate(int32_t value)
{
    return (int16_t)(value < INT16_MIN ? INT16_MIN : value > INT16_MAX ? INT16_MAX : value);
}

/* a * x + b * y modulo 2^32, as instructions have it. */
static uint32_t rotate(int16_t x, int a, int16_t y, int b)
{
    return (uint32_t)(a * x) + (uint32_t)(b * y);
}

static int16_t descale(uint32_t value, int shift)
{
    return saturate((int32_t)(value + (1u << (shift - 1))) >> shift);
}

/* Transform eight values in place that lie `step` apart. */
static void transform_line(int16_t *line, int step, int shift)
{
    int16_t in[BLOCK];
    for (int i = 0; i < BLOCK; i++)
        in[i] = line[i * step];
    uint32_t sum = (uint32_t)((int16_t)(in[0] + in[4]) * (1 << CONST_BITS));
    uint32_t difference = (uint32_t)((int16_t)(in[0] - in[4]) * (1 << CONST_BITS));
    uint32_t even2 = rotate(in[2], F_0_541, in[6], F_0_541 - F_1_847);
    uint32_t even3 = rotate(in[2], F_0_541 + F_0_765, in[6], F_0_541);
    int16_t odd3 = (int16_t)(in[7] + in[3]), odd4 = (int16_t)(in[5] + in[1]);
    uint32_t z3 = rotate(odd3, F_1_175 - F_1_961, odd4, F_1_175);
    uint32_t z4 = rotate(odd3, F_1_175, odd4, F_1_175 - F_0_390);
    uint32_t even[4] = {sum + even3, difference + even2, difference - even2, sum - even3};
    uint32_t odd[4] = {rotate(in[7], -F_0_899, in[1], F_1_501 - F_0_899) + z4,
                       rotate(in[5], -F_2_562, in[3], F_3_072 - F_2_562) + z3,
                       rotate(in[5], F_2_053 - F_2_562, in[3], -F_2_562) + z4,
                       rotate(in[7], F_0_298 - F_0_899, in[1], -F_0_899) + z3};
    for (int i = 0; i < 4; i++) {
        line[i * step] = descale(even[i] + odd[i], shift);
        line[(7 - i) * step] = descale(even[i] - odd[i], shift);
    }
}

/* Whether only the first row has coefficients; such blocks have a shorter first pass, which differs where it
 * overflows. */
static bool is_flat(const int16_t *coefficients)
{
    int any = 0;
    for (int i = BLOCK; i < COEFFICIENTS; i++)
        any |= coefficients[i / BLOCK * 2 * BLOCK + i % BLOCK];
    return !any;
}

static void transform_block(const int16_t *coefficients, const int16_t *quantization, uint8_t *samples, size_t stride)
{
    int16_t block[COEFFICIENTS];
    for (int i = 0; i < COEFFICIENTS; i++)
        block[i] = (int16_t)(coefficients[i / BLOCK * 2 * BLOCK + i % BLOCK] * quantization[i]);
    if (is_flat(coefficients))
        for (int i = COEFFICIENTS - 1; i >= 0; i--)
            block[i] = (int16_t)((uint16_t)block[i % BLOCK] << PASS1_BITS);
    else
        for (int i = 0; i < BLOCK; i++)
            transform_line(block + i, BLOCK, PASS1_SHIFT);
    for (int i = 0; i < BLOCK; i++)
        transform_line(block + BLOCK * i, 1, PASS2_SHIFT);
    for (int i = 0; i < COEFFICIENTS; i++) {
        int value = block[i] + CENTRE;
        samples[(size_t)(i / BLOCK) * stride + i % BLOCK] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
    }
}

void codec_transform(struct pair *pair)
{
    for (unsigned i = 0; i < pair->count; i++)
        transform_block(pair->coefficients + BLOCK * i, pair->quantization[i], pair->samples[i], pair->stride[i]);
    memset(pair->coefficients, 0, sizeof pair->coefficients);
    pair->count = 0;
}

#if CODEC_AVX2
#define INLINE AVX2_INLINE

/* A vector has a row of the one block in its lower half and of the other in its upper half. Named one by one, not an
 * array: GCC keeps no arrays in registers, whatever becomes of their loops. */
struct rows {
    __m256i r0, r1, r2, r3, r4, r5, r6, r7;
};

/* x * a + y * b of the pairs that unpacking made. */
INLINE __m256i rotate_pairs(__m256i pairs, int a, int b)
{
    return _mm256_madd_epi16(pairs, _mm256_set1_epi32((int)((uint32_t)b << 16 | (uint16_t)a)));
}

/* What goes into one half, low or high, of a pass; pairs are of 16 bits, sums of 32. */
struct half {
    __m256i sum, difference;                 /* of rows 0 and 4 */
    __m256i rows_26, rows_71, rows_53, odds; /* odds: 7 + 3 and 5 + 1 */
};

/* Eight rows of 32 bits. */
INLINE struct rows transform_half(struct half in, int shift)
{
    const __m256i round = _mm256_set1_epi32(1 << (shift - 1));
    __m256i z3 = rotate_pairs(in.odds, F_1_175 - F_1_961, F_1_175);
    __m256i z4 = rotate_pairs(in.odds, F_1_175, F_1_175 - F_0_390);
    __m256i odd0 = _mm256_add_epi32(rotate_pairs(in.rows_71, -F_0_899, F_1_501 - F_0_899), z4);
    __m256i odd1 = _mm256_add_epi32(rotate_pairs(in.rows_53, -F_2_562, F_3_072 - F_2_562), z3);
    __m256i odd2 = _mm256_add_epi32(rotate_pairs(in.rows_53, F_2_053 - F_2_562, -F_2_562), z4);
    __m256i odd3 = _mm256_add_epi32(rotate_pairs(in.rows_71, F_0_298 - F_0_899, -F_0_899), z3);
    __m256i even2 = rotate_pairs(in.rows_26, F_0_541, F_0_541 - F_1_847);
    __m256i even3 = rotate_pairs(in.rows_26, F_0_541 + F_0_765, F_0_541);
    __m256i sum = _mm256_add_epi32(in.sum, round), difference = _mm256_add_epi32(in.difference, round);
    __m256i outer = _mm256_add_epi32(sum, even3), inner = _mm256_sub_epi32(sum, even3);
    __m256i second = _mm256_add_epi32(difference, even2), third = _mm256_sub_epi32(difference, even2);
    return (struct rows){_mm256_srai_epi32(_mm256_add_epi32(outer, odd0), shift),
                         _mm256_srai_epi32(_mm256_add_epi32(second, odd1), shift),
                         _mm256_srai_epi32(_mm256_add_epi32(third, odd2), shift),
                         _mm256_srai_epi32(_mm256_add_epi32(inner, odd3), shift),
                         _mm256_srai_epi32(_mm256_sub_epi32(inner, odd3), shift),
                         _mm256_srai_epi32(_mm256_sub_epi32(third, odd2), shift),
                         _mm256_srai_epi32(_mm256_sub_epi32(second, odd1), shift),
                         _mm256_srai_epi32(_mm256_sub_epi32(outer, odd0), shift)};
}

INLINE struct rows transform_columns(struct rows in, int shift)
{
    const __m256i zero = _mm256_setzero_si256();
    const int up = 16 - CONST_BITS; /* from the upper half of 32 bits */
    __m256i sum = _mm256_add_epi16(in.r0, in.r4), difference = _mm256_sub_epi16(in.r0, in.r4);
    __m256i odd3 = _mm256_add_epi16(in.r7, in.r3), odd4 = _mm256_add_epi16(in.r5, in.r1);
    struct half low = {_mm256_srai_epi32(_mm256_unpacklo_epi16(zero, sum), up),
                       _mm256_srai_epi32(_mm256_unpacklo_epi16(zero, difference), up),
                       _mm256_unpacklo_epi16(in.r2, in.r6),
                       _mm256_unpacklo_epi16(in.r7, in.r1),
                       _mm256_unpacklo_epi16(in.r5, in.r3),
                       _mm256_unpacklo_epi16(odd3, odd4)};
    struct half high = {_mm256_srai_epi32(_mm256_unpackhi_epi16(zero, sum), up),
                        _mm256_srai_epi32(_mm256_unpackhi_epi16(zero, difference), up),
                        _mm256_unpackhi_epi16(in.r2, in.r6),
                        _mm256_unpackhi_epi16(in.r7, in.r1),
                        _mm256_unpackhi_epi16(in.r5, in.r3),
                        _mm256_unpackhi_epi16(odd3, odd4)};
    struct rows a = transform_half(low, shift), b = transform_half(high, shift);
    return (struct rows){_mm256_packs_epi32(a.r0, b.r0), _mm256_packs_epi32(a.r1, b.r1),
                         _mm256_packs_epi32(a.r2, b.r2), _mm256_packs_epi32(a.r3, b.r3),
                         _mm256_packs_epi32(a.r4, b.r4), _mm256_packs_epi32(a.r5, b.r5),
                         _mm256_packs_epi32(a.r6, b.r6), _mm256_packs_epi32(a.r7, b.r7)};
}

/* Each block for itself. */
INLINE struct rows transpose(struct rows in)
{
    __m256i a0 = _mm256_unpacklo_epi16(in.r0, in.r1), a1 = _mm256_unpackhi_epi16(in.r0, in.r1);
    __m256i a2 = _mm256_unpacklo_epi16(in.r2, in.r3), a3 = _mm256_unpackhi_epi16(in.r2, in.r3);
    __m256i a4 = _mm256_unpacklo_epi16(in.r4, in.r5), a5 = _mm256_unpackhi_epi16(in.r4, in.r5);
    __m256i a6 = _mm256_unpacklo_epi16(in.r6, in.r7), a7 = _mm256_unpackhi_epi16(in.r6, in.r7);
    __m256i b0 = _mm256_unpacklo_epi32(a0, a2), b1 = _mm256_unpackhi_epi32(a0, a2);
    __m256i b2 = _mm256_unpacklo_epi32(a1, a3), b3 = _mm256_unpackhi_epi32(a1, a3);
    __m256i b4 = _mm256_unpacklo_epi32(a4, a6), b5 = _mm256_unpackhi_epi32(a4, a6);
    __m256i b6 = _mm256_unpacklo_epi32(a5, a7), b7 = _mm256_unpackhi_epi32(a5, a7);
    return (struct rows){_mm256_unpacklo_epi64(b0, b4), _mm256_unpackhi_epi64(b0, b4),
                         _mm256_unpacklo_epi64(b1, b5), _mm256_unpackhi_epi64(b1, b5),
                         _mm256_unpacklo_epi64(b2, b6), _mm256_unpackhi_epi64(b2, b6),
                         _mm256_unpacklo_epi64(b3, b7), _mm256_unpackhi_epi64(b3, b7)};
}

/* Row `i` of both blocks, and that of their quantization. */
INLINE __m256i load_coefficients(const struct pair *pair, int i)
{
    return _mm256_load_si256((const __m256i *)(pair->coefficients + 2 * BLOCK * i));
}

INLINE __m256i load_row(const struct pair *pair, int i)
{
    const int16_t *low = pair->quantization[0] + BLOCK * i, *high = pair->quantization[pair->count - 1] + BLOCK * i;
    __m256i quantization = _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_load_si128((const __m128i *)low)), _mm_load_si128((const __m128i *)high), 1);
    return _mm256_mullo_epi16(load_coefficients(pair, i), quantization);
}

/* Ones for a block whose rows 1 to 7 are zero. */
INLINE __m256i find_flat(const struct pair *pair)
{
    __m256i any = load_coefficients(pair, 1);
    for (int i = 2; i < BLOCK; i++)
        any = _mm256_or_si256(any, load_coefficients(pair, i));
    __m256i flat = _mm256_cmpeq_epi64(any, _mm256_setzero_si256());
    return _mm256_and_si256(flat, _mm256_shuffle_epi32(flat, 0x4E));
}

/* The pass over the columns; the flat blocks' is but a shift. */
INLINE struct rows first_pass(const struct pair *pair)
{
    struct rows in = {load_row(pair, 0), load_row(pair, 1), load_row(pair, 2), load_row(pair, 3),
                      load_row(pair, 4), load_row(pair, 5), load_row(pair, 6), load_row(pair, 7)};
    struct rows out = transform_columns(in, PASS1_SHIFT);
    __m256i flat = find_flat(pair);
    if (_mm256_testz_si256(flat, flat))
        return out;
    __m256i first = _mm256_slli_epi16(load_row(pair, 0), PASS1_BITS);
    return (struct rows){_mm256_blendv_epi8(out.r0, first, flat), _mm256_blendv_epi8(out.r1, first, flat),
                         _mm256_blendv_epi8(out.r2, first, flat), _mm256_blendv_epi8(out.r3, first, flat),
                         _mm256_blendv_epi8(out.r4, first, flat), _mm256_blendv_epi8(out.r5, first, flat),
                         _mm256_blendv_epi8(out.r6, first, flat), _mm256_blendv_epi8(out.r7, first, flat)};
}

/* Store rows `i` and `i + 1` of the blocks. */
INLINE void store_rows(const struct pair *pair, int i, __m256i row, __m256i next)
{
    __m256i samples = _mm256_add_epi8(_mm256_packs_epi16(row, next), _mm256_set1_epi8((char)CENTRE));
    uint8_t *low = pair->samples[0] + (size_t)i * pair->stride[0];
    uint8_t *high = pair->samples[1] + (size_t)i * pair->stride[1];
    _mm_storel_epi64((__m128i *)low, _mm256_castsi256_si128(samples));
    _mm_storeh_pd((double *)(void *)(low + pair->stride[0]), _mm_castsi128_pd(_mm256_castsi256_si128(samples)));
    if (pair->count < 2)
        return;
    __m128i other = _mm256_extracti128_si256(samples, 1);
    _mm_storel_epi64((__m128i *)high, other);
    _mm_storeh_pd((double *)(void *)(high + pair->stride[1]), _mm_castsi128_pd(other));
}

AVX2_FUNCTION void codec_transform_avx2(struct pair *pair)
{
    struct rows rows = transpose(transform_columns(transpose(first_pass(pair)), PASS2_SHIFT));
    store_rows(pair, 0, rows.r0, rows.r1);
    store_rows(pair, 2, rows.r2, rows.r3);
    store_rows(pair, 4, rows.r4, rows.r5);
    store_rows(pair, 6, rows.r6, rows.r7);
    for (int i = 0; i < BLOCK; i++)
        _mm256_store_si256((__m256i *)(pair->coefficients + 2 * BLOCK * i), _mm256_setzero_si256());
    pair->count = 0;
}
#endif
