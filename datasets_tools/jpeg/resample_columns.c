/* A row of sums becomes a row of pixels, 32 of them at once, colour by colour. Two taps are one instruction: in each
 * half of a vector, a shuffle brings the pairs of samples of four outputs together. */
#include <string.h>

#include "resample_parts.h"
#include "vectors.h"

#if CODEC_AVX2
#include <immintrin.h>
#endif

static void sum_columns(const struct columns *columns, const int16_t *sums, uint8_t *out)
{
    const struct taps *taps = &columns->taps;
    for (unsigned x = 0; x < columns->outputs; x++) {
        const int16_t *weights = taps->weights + (size_t)x * taps->count;
        for (unsigned plane = 0; plane < NUM_PLANES; plane++) {
            const int16_t *samples = sums + plane * columns->pitch + taps->first[x];
            int32_t sum = 1 << (COLUMNS_SHIFT - 1);
            for (unsigned tap = 0; tap < taps->count; tap++)
                sum += weights[tap] * samples[tap];
            sum >>= COLUMNS_SHIFT;
            *out++ = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
        }
    }
}

#if CODEC_AVX2
/* Of 32 outputs, a vector sums up four from `LANE * group` on in its lower half, and four that lie 16 behind them in
 * its upper half: so the packed bytes are in order. For each such group of eight there are 32 bytes that say where
 * pairs of samples lie, and for each pair of taps 32 bytes of weights. */
enum { LANE = 4, HALF = 16, GROUPS = 4, VECTOR = 32, LAST_PLACE = 6, FAR = 8 };

static inline size_t group_size(unsigned num_taps)
{
    return VECTOR * (1 + num_taps / 2);
}

/* The output that the `i`-th 32 bits of a group's vectors are for. */
static inline unsigned output_of(unsigned group, unsigned i)
{
    return group / GROUPS * OUTPUTS + group % GROUPS * LANE + i / LANE * HALF + i % LANE;
}

/* How far the pair of samples of an output lies behind the first one that is loaded, for so many outputs `together`. */
static inline unsigned place_of(const unsigned *firsts, unsigned x, unsigned together)
{
    return firsts[x] - firsts[x / together * together];
}

static bool fits(const unsigned *firsts, unsigned outputs, unsigned together)
{
    unsigned largest = 0;
    for (unsigned x = 0; x < outputs; x++) {
        unsigned place = place_of(firsts, x, together);
        largest = place > largest ? place : largest;
    }
    return largest <= LAST_PLACE;
}

static void spread_group(const struct taps *taps, unsigned group, unsigned together, uint8_t *vectors)
{
    for (unsigned i = 0; i < 2 * LANE; i++) {
        unsigned x = output_of(group, i), place = place_of(taps->first, x, together);
        for (unsigned byte = 0; byte < 4; byte++)
            vectors[4 * i + byte] = (uint8_t)(2 * place + byte);
        for (unsigned tap = 0; tap < taps->count; tap += 2)
            memcpy(vectors + VECTOR * (1 + tap / 2) + 4 * i, taps->weights + (size_t)x * taps->count + tap, 4);
    }
}

/* Weights of an output whose samples reach far: in whole vectors. */
static inline unsigned far_length(unsigned num_taps)
{
    return (num_taps + FAR - 1) / FAR * FAR;
}

static void spread_far(const struct columns *columns)
{
    size_t used = columns->taps.count * sizeof(int16_t), size = far_length(columns->taps.count) * sizeof(int16_t);
    for (unsigned x = 0; x < columns->outputs; x++) {
        uint8_t *weights = columns->vectors + x * size;
        memset(weights, 0, size);
        memcpy(weights, columns->taps.weights + (size_t)x * columns->taps.count, used);
    }
}

static void spread_near(const struct columns *columns)
{
    const struct taps *taps = &columns->taps;
    for (unsigned x = 0, group = 0; x < columns->outputs; x += OUTPUTS)
        for (unsigned i = 0; i < GROUPS; i++, group++)
            spread_group(taps, group, columns->together, columns->vectors + group * group_size(taps->count));
}

/* Repeat the last output up to a whole number of `OUTPUTS`. */
static void pad_taps(const struct taps *taps, unsigned outputs)
{
    for (unsigned x = outputs; x % OUTPUTS; x++) {
        taps->first[x] = taps->first[x - 1];
        memcpy(taps->weights + (size_t)x * taps->count, taps->weights + (size_t)(x - 1) * taps->count,
               taps->count * sizeof *taps->weights);
    }
}

AVX2_INLINE __m256i load(const uint8_t *vector)
{
    return _mm256_load_si256((const __m256i *)vector);
}

/* Eight samples from each of two places on. */
AVX2_INLINE __m256i load_samples(const int16_t *low, const int16_t *high)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)low)),
                                   _mm_loadu_si128((const __m128i *)high), 1);
}

/* Pairs of samples of eight outputs. */
AVX2_INLINE __m256i load_pairs(unsigned together, const unsigned *firsts, __m256i places, const int16_t *samples)
{
    __m256i pairs = _mm256_shuffle_epi8(load_samples(samples + firsts[0], samples + firsts[HALF]), places);
    if (together == LANE)
        return pairs;
    __m256i next = load_samples(samples + firsts[LANE / 2], samples + firsts[HALF + LANE / 2]);
    return _mm256_blend_epi32(pairs, _mm256_shuffle_epi8(next, places), 0xCC);
}

/* Eight outputs of one colour. `count` and `together` are those of the columns: constants become code. */
AVX2_INLINE __m256i sum_group(unsigned count, unsigned together, const unsigned *firsts, const uint8_t *vectors,
                              const int16_t *samples)
{
    __m256i sum = _mm256_set1_epi32(1 << (COLUMNS_SHIFT - 1)), places = load(vectors);
    for (unsigned tap = 0; tap < count; tap += 2) {
        __m256i pairs = load_pairs(together, firsts, places, samples + tap);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, load(vectors + VECTOR * (1 + tap / 2))));
    }
    return _mm256_srai_epi32(sum, COLUMNS_SHIFT);
}

/* 32 outputs of one colour. */
AVX2_INLINE __m256i sum_plane(unsigned count, unsigned together, const unsigned *firsts, const uint8_t *vectors,
                              const int16_t *samples)
{
    size_t size = group_size(count);
    __m256i first = sum_group(count, together, firsts, vectors, samples);
    __m256i second = sum_group(count, together, firsts + LANE, vectors + size, samples);
    __m256i third = sum_group(count, together, firsts + 2 * LANE, vectors + 2 * size, samples);
    __m256i fourth = sum_group(count, together, firsts + 3 * LANE, vectors + 3 * size, samples);
    return _mm256_packus_epi16(_mm256_packs_epi32(first, second), _mm256_packs_epi32(third, fourth));
}

/* Where the samples of a colour go in the `part`-th 16 of the 48 bytes of 16 pixels. Others are zero. */
AVX2_INLINE __m256i spread(__m256i samples, int part, int plane)
{
    char places[HALF];
    for (int i = 0; i < HALF; i++) {
        int at = HALF * part + i;
        places[i] = (char)(at % NUM_PLANES == plane ? at / NUM_PLANES : -1);
    }
    __m128i half;
    memcpy(&half, places, sizeof half);
    return _mm256_shuffle_epi8(samples, _mm256_broadcastsi128_si256(half));
}

/* The `part`-th 16 of the 48 bytes of 16 pixels, and of the 16 pixels behind them. */
AVX2_INLINE void store_part(uint8_t *rgb, int part, __m256i red, __m256i green, __m256i blue)
{
    __m256i bytes = _mm256_or_si256(spread(red, part, 0), spread(green, part, 1));
    bytes = _mm256_or_si256(bytes, spread(blue, part, 2));
    _mm_storeu_si128((__m128i *)(rgb + HALF * part), _mm256_castsi256_si128(bytes));
    _mm_storeu_si128((__m128i *)(rgb + HALF * (NUM_PLANES + part)), _mm256_extracti128_si256(bytes, 1));
}

AVX2_INLINE void store_pixels(uint8_t *rgb, __m256i red, __m256i green, __m256i blue)
{
    store_part(rgb, 0, red, green, blue); /* in a loop the places would be computed again and again */
    store_part(rgb, 1, red, green, blue);
    store_part(rgb, 2, red, green, blue);
}

AVX2_INLINE void sum_columns_of(unsigned count, unsigned together, const struct columns *columns, const int16_t *sums,
                                uint8_t *out)
{
    const uint8_t *vectors = columns->vectors;
    for (unsigned x = 0; x < columns->outputs; x += OUTPUTS, vectors += GROUPS * group_size(count)) {
        const unsigned *firsts = columns->taps.first + x;
        __m256i red = sum_plane(count, together, firsts, vectors, sums);
        __m256i green = sum_plane(count, together, firsts, vectors, sums + columns->pitch);
        __m256i blue = sum_plane(count, together, firsts, vectors, sums + 2 * columns->pitch);
        if (x + OUTPUTS <= columns->outputs) {
            store_pixels(out + (size_t)x * NUM_PLANES, red, green, blue);
        } else { /* nothing may be written behind the last */
            uint8_t last[OUTPUTS * NUM_PLANES];
            store_pixels(last, red, green, blue);
            memcpy(out + (size_t)x * NUM_PLANES, last, (size_t)(columns->outputs - x) * NUM_PLANES);
        }
    }
}

AVX2_INLINE __m128i sum_far(unsigned length, const uint8_t *weights, const int16_t *samples)
{
    __m128i sum = _mm_setzero_si128();
    for (unsigned tap = 0; tap < length; tap += FAR)
        sum = _mm_add_epi32(sum, _mm_madd_epi16(_mm_loadu_si128((const __m128i *)(samples + tap)),
                                                _mm_load_si128((const __m128i *)weights + tap / FAR)));
    return sum;
}

/* Outputs of so many taps that each has vectors of its own. */
AVX2_INLINE void sum_far_columns(const struct columns *columns, const int16_t *sums, uint8_t *out)
{
    const uint8_t *weights = columns->vectors;
    unsigned length = far_length(columns->taps.count);
    for (unsigned x = 0; x < columns->outputs; x++, weights += length * sizeof(int16_t)) {
        const int16_t *samples = sums + columns->taps.first[x];
        __m128i red = sum_far(length, weights, samples);
        __m128i green = sum_far(length, weights, samples + columns->pitch);
        __m128i blue = sum_far(length, weights, samples + 2 * columns->pitch);
        __m128i pixel = _mm_hadd_epi32(_mm_hadd_epi32(red, green), _mm_hadd_epi32(blue, blue));
        pixel = _mm_srai_epi32(_mm_add_epi32(pixel, _mm_set1_epi32(1 << (COLUMNS_SHIFT - 1))), COLUMNS_SHIFT);
        pixel = _mm_packus_epi16(_mm_packs_epi32(pixel, pixel), pixel);
        int32_t bytes = _mm_cvtsi128_si32(pixel);
        memcpy(out + (size_t)x * NUM_PLANES, &bytes, NUM_PLANES);
    }
}

AVX2_FUNCTION static void sum_columns_avx2(const struct columns *columns, const int16_t *sums, uint8_t *out)
{
    unsigned count = columns->taps.count;
    if (!columns->together)
        sum_far_columns(columns, sums, out);
    else if (columns->together == LANE / 2)
        sum_columns_of(count, LANE / 2, columns, sums, out);
    else if (count == 2)
        sum_columns_of(2, LANE, columns, sums, out);
    else if (count == 4)
        sum_columns_of(4, LANE, columns, sums, out);
    else
        sum_columns_of(count, LANE, columns, sums, out);
}
#endif

size_t resample_vectors_size(unsigned outputs, unsigned num_taps)
{
#if CODEC_AVX2
    size_t near = ((size_t)outputs + OUTPUTS - 1) / OUTPUTS * GROUPS * group_size(num_taps);
    size_t far = (size_t)outputs * far_length(num_taps) * sizeof(int16_t);
    return near > far ? near : far;
#else
    (void)outputs;
    (void)num_taps;
    return 0;
#endif
}

void resample_spread_taps(struct columns *columns)
{
#if CODEC_AVX2
    const unsigned *firsts = columns->taps.first;
    columns->together = fits(firsts, columns->outputs, LANE)       ? LANE
                        : fits(firsts, columns->outputs, LANE / 2) ? LANE / 2
                                                                   : 0;
    pad_taps(&columns->taps, columns->outputs);
    if (columns->together)
        spread_near(columns);
    else
        spread_far(columns);
#else
    columns->together = 0;
#endif
}

void resample_sum_columns(const struct columns *columns, const int16_t *sums, uint8_t *out)
{
#if CODEC_AVX2
    if (has_avx2()) {
        sum_columns_avx2(columns, sums, out);
        return;
    }
#endif
    sum_columns(columns, sums, out);
}
