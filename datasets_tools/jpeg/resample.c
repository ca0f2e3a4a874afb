/* Rows first: the few source rows that an output row needs are summed into one row of 16-bit numbers, which stays in
 * the cache, and that row is then summed along its width. Two taps are one instruction (multiply and add pairs). */
#include "resample.h"

#include <math.h>
#include <string.h>

#include "error.h"

#define CHANNELS 3
#define ALIGNMENT 64
#define EXTRA_BITS 6 /* kept between the passes: 255 << 6, and what a cubic overshoots, fits into 16 bits */
#define ROWS_SHIFT (RESAMPLE_BITS - EXTRA_BITS)
#define COLUMNS_SHIFT (RESAMPLE_BITS + EXTRA_BITS)
#define ABOVE_ZERO (1L << RESAMPLE_BITS) /* no sum of a cubic's weights is as far below */

/* CODEC_PORTABLE is defined by tests of the plain loops. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(CODEC_PORTABLE)
#define HAVE_AVX2 1
#include <immintrin.h>
#endif

static double triangle(double x)
{
    return x < 1 ? 1 - x : 0;
}

/* Keys 1981 with a = -0.5. */
static double cubic(double x)
{
    if (x < 1)
        return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

static double weigh(codec_filter filter, double x)
{
    return filter == CODEC_BICUBIC ? cubic(fabs(x)) : triangle(fabs(x));
}

/* The whole part of a value, between 0 and `high`. */
static unsigned clamp(double value, unsigned high)
{
    return value <= 0 ? 0 : value >= high ? high : (unsigned)value;
}

/* Taps of an output whose box covers `scale` source pixels, at most `length` and one more for being even. */
static unsigned num_taps(codec_filter filter, double scale, unsigned length)
{
    double support = (filter == CODEC_BICUBIC ? 2 : 1) * (scale > 1 ? scale : 1);
    unsigned count = clamp(ceil(2 * support), length);
    return count + count % 2;
}

/* Round weights so that they sum to one exactly: what rounding leaves over goes to the next, as in dithering. */
static void quantize(const double *weights, unsigned count, int16_t *out)
{
    double total = 0, sum = 0;
    long before = 0;
    for (unsigned i = 0; i < count; i++)
        total += weights[i];
    double scale = (1 << RESAMPLE_BITS) / total;
    for (unsigned i = 0; i < count; i++) {
        sum += weights[i];
        long rounded = (long)(sum * scale + ABOVE_ZERO + 0.5) - ABOVE_ZERO; /* lrint and floor would be calls */
        out[i] = (int16_t)(rounded - before);
        before = rounded;
    }
}

/* `exact`: room for taps->count doubles. */
static void fill_taps(struct taps *taps, codec_filter filter, double start, double extent, unsigned length,
                      unsigned outputs, double *exact)
{
    double scale = extent / outputs, widening = scale > 1 ? scale : 1;
    double support = (filter == CODEC_BICUBIC ? 2 : 1) * widening;
    unsigned real = taps->count <= length ? taps->count : length; /* the one for being even may not exist */
    for (unsigned i = 0; i < outputs; i++) {
        double centre = start + (i + 0.5) * scale;
        unsigned first = clamp(centre - support + 0.5, length - real);
        for (unsigned k = 0; k < taps->count; k++)
            exact[k] = k < real ? weigh(filter, (first + k + 0.5 - centre) / widening) : 0;
        taps->first[i] = first;
        quantize(exact, taps->count, taps->weights + (size_t)i * taps->count);
    }
}

/* `count` rows of `length` bytes, their weights, and where their sum goes. */
struct row_sum {
    const uint8_t **rows;
    const int16_t *weights;
    unsigned count;
    size_t length;
    int16_t *sums;
};

static void sum_rows_from(const struct row_sum *task, size_t start)
{
    for (size_t i = start; i < task->length; i++) {
        int32_t sum = 1 << (ROWS_SHIFT - 1);
        for (unsigned tap = 0; tap < task->count; tap++)
            sum += task->weights[tap] * task->rows[tap][i];
        task->sums[i] = (int16_t)(sum >> ROWS_SHIFT);
    }
}

static void sum_columns_from(const struct taps *taps, unsigned start, unsigned outputs, const int16_t *sums,
                             uint8_t *out)
{
    for (unsigned x = start; x < outputs; x++) {
        const int16_t *weights = taps->weights + (size_t)x * taps->count;
        const int16_t *pixel = sums + (size_t)taps->first[x] * CHANNELS;
        for (unsigned c = 0; c < CHANNELS; c++) {
            int32_t sum = 1 << (COLUMNS_SHIFT - 1);
            for (unsigned tap = 0; tap < taps->count; tap++)
                sum += weights[tap] * pixel[tap * CHANNELS + c];
            sum >>= COLUMNS_SHIFT;
            out[x * CHANNELS + c] = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
        }
    }
}

#ifdef HAVE_AVX2

#define AVX2 __attribute__((target("avx2")))
#define AVX2_INLINE AVX2 static inline __attribute__((always_inline))
#define BLOCK 32

static inline int32_t pair_of(const int16_t *weights)
{
    int32_t pair;
    memcpy(&pair, weights, sizeof pair);
    return pair;
}

/* 32 bytes of two rows times their weights, onto four sums of eight 32-bit numbers. */
AVX2_INLINE void add_pair(__m256i sums[4], const uint8_t *row, const uint8_t *next, int32_t pair)
{
    const __m256i zero = _mm256_setzero_si256(), weights = _mm256_set1_epi32(pair);
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

AVX2 static void sum_rows_avx2(const struct row_sum *task)
{
    const __m256i half = _mm256_set1_epi32(1 << (ROWS_SHIFT - 1));
    size_t i = 0;
    for (; i + BLOCK <= task->length; i += BLOCK) {
        __m256i sums[4] = {half, half, half, half};
        for (unsigned tap = 0; tap < task->count; tap += 2)
            add_pair(sums, task->rows[tap] + i, task->rows[tap + 1] + i, pair_of(task->weights + tap));
        store_sums(sums, task->sums + i);
    }
    sum_rows_from(task, i);
}

#define PIXELS 4 /* output pixels at once: in two vectors, of two pixels each */

/* The weights as vectors take them: for each four pixels, pair of taps by pair of taps, those of the first and the third
 * pixel and those of the second and the fourth, each for four channels. */
static void spread_weights(const struct taps *taps, unsigned outputs, int32_t *spread)
{
    static const unsigned order[PIXELS] = {0, 2, 1, 3};
    for (unsigned x = 0; x + PIXELS <= outputs; x += PIXELS)
        for (unsigned tap = 0; tap < taps->count; tap += 2)
            for (unsigned k = 0; k < PIXELS; k++, spread += 4)
                for (unsigned i = 0; i < 4; i++)
                    spread[i] = pair_of(taps->weights + (size_t)(x + order[k]) * taps->count + tap);
}

/* One pair of taps of two output pixels, each in its half: R0 G0 B0 R1 G1 B1 .. .. -> R0 R1 G0 G1 B0 B1. */
AVX2_INLINE __m256i sum_pair(__m256i sum, const int16_t *first, const int16_t *second, const int32_t *weights)
{
    const __m256i interleave =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11, -1, -1, -1, -1));
    __m256i pixels = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)first));
    pixels = _mm256_inserti128_si256(pixels, _mm_loadu_si128((const __m128i *)second), 1);
    pixels = _mm256_shuffle_epi8(pixels, interleave);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pixels, _mm256_load_si256((const __m256i *)weights)));
}

/* Six bytes are two pixels; eight are written. */
AVX2_INLINE void store_pixels(uint8_t *out, __m256i first_and_third, __m256i second_and_fourth)
{
    const __m256i dense =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 4, 5, 6, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
    __m256i words = _mm256_packs_epi32(_mm256_srai_epi32(first_and_third, COLUMNS_SHIFT),
                                       _mm256_srai_epi32(second_and_fourth, COLUMNS_SHIFT));
    __m256i bytes = _mm256_shuffle_epi8(_mm256_packus_epi16(words, words), dense);
    _mm_storel_epi64((__m128i *)out, _mm256_castsi256_si128(bytes));
    _mm_storel_epi64((__m128i *)(out + 2 * CHANNELS), _mm256_extracti128_si256(bytes, 1));
}

/* Four pixels, and two bytes behind them. Sums are readable `ARENA_SLACK` bytes beyond their end. */
AVX2_INLINE void sum_four(unsigned count, const unsigned *firsts, const int32_t *spread, const int16_t *sums,
                          uint8_t *out)
{
    __m256i even = _mm256_set1_epi32(1 << (COLUMNS_SHIFT - 1)), odd = even;
    const int16_t *pixels[PIXELS];
    for (unsigned k = 0; k < PIXELS; k++)
        pixels[k] = sums + (size_t)firsts[k] * CHANNELS;
    for (unsigned tap = 0; tap < count; tap += 2, spread += 4 * PIXELS) {
        even = sum_pair(even, pixels[0] + tap * CHANNELS, pixels[2] + tap * CHANNELS, spread);
        odd = sum_pair(odd, pixels[1] + tap * CHANNELS, pixels[3] + tap * CHANNELS, spread + 8);
    }
    store_pixels(out, even, odd);
}

/* `count` is that of `taps`, once more: a constant becomes code. */
AVX2_INLINE void sum_columns_of(unsigned count, const struct taps *taps, unsigned outputs, const int32_t *spread,
                                const int16_t *sums, uint8_t *out)
{
    unsigned x = 0;
    for (; x + PIXELS < outputs; x += PIXELS, spread += 2 * PIXELS * count)
        sum_four(count, taps->first + x, spread, sums, out + (size_t)x * CHANNELS);
    if (x + PIXELS == outputs) { /* nothing may be written behind the last */
        uint8_t last[PIXELS * CHANNELS + 2];
        sum_four(count, taps->first + x, spread, sums, last);
        memcpy(out + (size_t)x * CHANNELS, last, PIXELS * CHANNELS);
        x += PIXELS;
    }
    sum_columns_from(taps, x, outputs, sums, out);
}

AVX2 static void sum_columns_avx2(const struct taps *taps, unsigned outputs, const int32_t *spread, const int16_t *sums,
                                  uint8_t *out)
{
    switch (taps->count) {
    case 2:
        sum_columns_of(2, taps, outputs, spread, sums, out);
        return;
    case 4:
        sum_columns_of(4, taps, outputs, spread, sums, out);
        return;
    default:
        sum_columns_of(taps->count, taps, outputs, spread, sums, out);
    }
}

#endif

static void sum_rows(const struct row_sum *task)
{
#ifdef HAVE_AVX2
    if (__builtin_cpu_supports("avx2")) {
        sum_rows_avx2(task);
        return;
    }
#endif
    sum_rows_from(task, 0);
}

static void sum_columns(const struct taps *taps, unsigned outputs, const int32_t *spread, const int16_t *sums,
                        uint8_t *out)
{
#ifdef HAVE_AVX2
    if (__builtin_cpu_supports("avx2")) {
        sum_columns_avx2(taps, outputs, spread, sums, out);
        return;
    }
#endif
    (void)spread;
    sum_columns_from(taps, 0, outputs, sums, out);
}

static size_t aligned(size_t size)
{
    return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

struct tables {
    struct taps rows, columns;
    int32_t *spread; /* the columns' weights, as vectors take them */
    const uint8_t **sources;
    int16_t *sums;
};

#define NUM_TABLES 8

/* Lay out both axes' taps, a row of sums and the doubles that weights are made of in one piece of memory. */
static bool make_tables(const struct resampling *task, struct tables *tables, struct codec_arena *arena)
{
    unsigned row_taps = num_taps(task->filter, task->box[2] / task->out_height, task->height);
    unsigned column_taps = num_taps(task->filter, task->box[3] / task->out_width, task->width);
    unsigned most = row_taps > column_taps ? row_taps : column_taps;
    size_t sizes[NUM_TABLES] = {
        aligned(task->out_height * sizeof(unsigned)),
        aligned(task->out_height * row_taps * sizeof(int16_t)),
        aligned(task->out_width * sizeof(unsigned)),
        aligned(task->out_width * column_taps * sizeof(int16_t)),
        aligned(task->out_width * column_taps * 2 * sizeof(int32_t)),
        aligned(most * sizeof(double)),
        aligned(row_taps * sizeof(uint8_t *)),
        aligned((size_t)task->width * CHANNELS * sizeof(int16_t)),
    };
    void *places[NUM_TABLES];
    size_t total = 0;
    for (int i = 0; i < NUM_TABLES; i++)
        total += sizes[i];
    uint8_t *memory = arena_take(arena, total);
    if (!memory)
        return false;
    for (int i = 0; i < NUM_TABLES; memory += sizes[i++])
        places[i] = memory;
    tables->rows = (struct taps){row_taps, places[0], places[1]};
    tables->columns = (struct taps){column_taps, places[2], places[3]};
    tables->spread = places[4];
    tables->sources = places[6];
    tables->sums = places[7]; /* last: the arena's slack lies behind it */
    fill_taps(&tables->rows, task->filter, task->box[0], task->box[2], task->height, task->out_height, places[5]);
    fill_taps(&tables->columns, task->filter, task->box[1], task->box[3], task->width, task->out_width, places[5]);
#ifdef HAVE_AVX2
    spread_weights(&tables->columns, task->out_width, tables->spread);
#endif
    return true;
}

/* The rows that make output row `y`. A tap beyond the last row weighs 0: any row serves. */
static void find_rows(const struct resampling *task, const struct tables *tables, unsigned y)
{
    unsigned first = tables->rows.first[y];
    for (unsigned tap = 0; tap < tables->rows.count; tap++)
        tables->sources[tap] = task->pixels + (first + tap < task->height ? first + tap : first) * task->stride;
}

codec_status resample(const struct resampling *task, struct codec_arena *arena, codec_error *error)
{
    struct tables tables;
    if (!make_tables(task, &tables, arena))
        return codec_fail(error, CODEC_NO_MEMORY, "no memory");
    size_t out_stride = (size_t)task->out_width * CHANNELS;
    for (unsigned y = 0; y < task->out_height; y++) {
        struct row_sum rows = {
            .rows = tables.sources,
            .weights = tables.rows.weights + (size_t)y * tables.rows.count,
            .count = tables.rows.count,
            .length = (size_t)task->width * CHANNELS,
            .sums = tables.sums,
        };
        find_rows(task, &tables, y);
        sum_rows(&rows);
        sum_columns(&tables.columns, task->out_width, tables.spread, tables.sums, task->out + y * out_stride);
    }
    return CODEC_OK;
}
