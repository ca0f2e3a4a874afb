/* Area resampling whose result is the exact mean, rounded to nearest, on every machine.
 *
 * Scaled by both heights and both widths, all weights are integers: source row i counts for output row y by the overlap
 * of [i * out_height, (i + 1) * out_height) with [y * height, (y + 1) * height). Every sum below is one that its type
 * holds exactly (whole numbers up to 255 * 65500 < 2^24 in float, quarters up to 256 * 65500^2 < 2^51 in double), so
 * neither the order of additions nor fused instructions change a bit, and the compiler may vectorize as it likes.
 */
#include <stdlib.h>
#include <string.h>

#include "error.h"

/* Needs indirect functions: GCC with glibc; sanitizers cannot see through them. */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define WIDE_VECTORS __attribute__((target_clones("avx2", "default")))
#else
#define WIDE_VECTORS
#endif

/* What an output row or column covers: `first` of the source's row or column `start`, then `whole` ones of full weight,
 * then `last` of the next. */
struct span {
    unsigned start, whole;
    double first, last;
};

/* How [start, start + length) covers the cells [i * cell, (i + 1) * cell); length >= cell. */
static struct span cover(uint64_t start, uint64_t length, uint64_t cell)
{
    uint64_t end = start + length, begin = start / cell, stop = (end - 1) / cell;
    struct span span = {.start = (unsigned)begin};
    if (begin == stop) {
        span.first = (double)length;
        return span;
    }
    span.first = (double)((begin + 1) * cell - start);
    span.last = (double)(end - stop * cell);
    span.whole = (unsigned)(stop - begin - 1);
    return span;
}

WIDE_VECTORS static void add_row(float *restrict sums, const uint8_t *restrict row, float weight, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sums[i] += weight * (float)row[i];
}

static void sum_rows(const struct span *span, float cell, const uint8_t *pixels, size_t stride, float *sums)
{
    const uint8_t *row = pixels + span->start * stride;
    memset(sums, 0, stride * sizeof *sums);
    add_row(sums, row, (float)span->first, stride);
    for (unsigned i = 0; i < span->whole; i++)
        add_row(sums, row += stride, cell, stride);
    if (span->last > 0)
        add_row(sums, row + stride, (float)span->last, stride);
}

static inline __attribute__((always_inline)) void add_column(double *sums, const float *column, double weight,
                                                             unsigned components)
{
    for (unsigned c = 0; c < components; c++)
        sums[c] += weight * (double)column[c];
}

/* `row` is readable one pixel beyond its end, where a last column of weight 0 may lie. */
static inline __attribute__((always_inline)) void sum_columns(const struct span *spans, unsigned out_width, double cell,
                                                              double area, const float *row, uint8_t *out,
                                                              unsigned components)
{
    /* Sums are whole: a quarter on top of half the area rounds ties up, whatever the reciprocal's last bit. */
    const double half = area / 2 + 0.25, reciprocal = 1 / area;
    for (unsigned x = 0; x < out_width; x++, out += components) {
        const float *column = row + (size_t)spans[x].start * components;
        double sums[3] = {half, half, half};
        add_column(sums, column, spans[x].first, components);
        for (unsigned i = 0; i < spans[x].whole; i++)
            add_column(sums, column += components, cell, components);
        add_column(sums, column + components, spans[x].last, components);
        for (unsigned c = 0; c < components; c++)
            out[c] = (uint8_t)(int)(sums[c] * reciprocal);
    }
}

WIDE_VECTORS static void sum_grey(const struct span *spans, unsigned out_width, double cell, double area,
                                  const float *row, uint8_t *out)
{
    sum_columns(spans, out_width, cell, area, row, out, 1);
}

WIDE_VECTORS static void sum_colour(const struct span *spans, unsigned out_width, double cell, double area,
                                    const float *row, uint8_t *out)
{
    sum_columns(spans, out_width, cell, area, row, out, 3);
}

codec_status codec_resize(const uint8_t *pixels, unsigned height, unsigned width, unsigned components, uint8_t *out,
                          unsigned out_height, unsigned out_width, codec_error *error)
{
    size_t stride = (size_t)width * components, out_stride = (size_t)out_width * components;
    float *sums = calloc(stride + components, sizeof *sums);
    struct span *columns = malloc(out_width * sizeof *columns);
    if (!sums || !columns) {
        free(sums);
        free(columns);
        return codec_fail(error, CODEC_NO_MEMORY, "no memory");
    }
    for (unsigned x = 0; x < out_width; x++)
        columns[x] = cover((uint64_t)x * width, width, out_width);
    for (unsigned y = 0; y < out_height; y++) {
        struct span rows = cover((uint64_t)y * height, height, out_height);
        sum_rows(&rows, (float)out_height, pixels, stride, sums);
        (components == 1 ? sum_grey : sum_colour)(columns, out_width, out_width, (double)height * width, sums,
                                                   out + y * out_stride);
    }
    free(sums);
    free(columns);
    return CODEC_OK;
}
