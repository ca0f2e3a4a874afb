/* The filters' weights in 16 bits. */
#include <math.h>
#include <string.h>

#include "resample_parts.h"

#define ABOVE_ZERO (1L << WEIGHT_BITS) /* no sum of a cubic's weights is as far below */

/* How far a filter reaches, in its own units. */
static double radius(codec_filter filter)
{
    return filter == CODEC_BICUBIC ? 2 : 1;
}

static double triangle(double x)
{
    double weight = 1 - x;
    return weight > 0 ? weight : 0; /* without a branch, which would be guessed wrongly at every other output */
}

/* Keys 1981 with a = -0.5. */
static double cubic(double x)
{
    if (x < 1)
        return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

/* The whole part of a value, between 0 and `high`. */
static unsigned clamp(double value, unsigned high)
{
    return value <= 0 ? 0 : value >= high ? high : (unsigned)value;
}

/* How much wider than a sample the filter's unit is: it widens when it shrinks. */
static double widening(const struct axis *axis)
{
    double scale = axis->extent / axis->outputs;
    return scale > 1 ? scale : 1;
}

unsigned resample_num_taps(const struct axis *axis)
{
    unsigned count = clamp(ceil(2 * radius(axis->filter) * widening(axis)), axis->length);
    return count + count % 2;
}

/* Weights of `count` samples, the first of them `offset` from the output's centre, each added to those before it. */
static void add_up(codec_filter filter, double offset, double narrowing, unsigned count, double *sums)
{
    double sum = 0;
    for (unsigned k = 0; k < count; k++) {
        double x = fabs((k + offset) * narrowing);
        sum += filter == CODEC_BICUBIC ? cubic(x) : triangle(x);
        sums[k] = sum;
    }
}

/* Round weights so that they sum to one exactly: what rounding leaves over goes to the next, as in dithering. */
static void quantize(const double *sums, unsigned count, int16_t *out)
{
    double scale = (1 << WEIGHT_BITS) / sums[count - 1];
    long before = 0;
    for (unsigned k = 0; k < count; k++) {
        long rounded = (long)(sums[k] * scale + (ABOVE_ZERO + 0.5)) - ABOVE_ZERO; /* lrint and floor would be calls */
        out[k] = (int16_t)(rounded - before);
        before = rounded;
    }
}

void resample_fill_taps(const struct axis *axis, struct taps *taps, double *exact)
{
    double scale = axis->extent / axis->outputs, narrowing = 1 / widening(axis);
    double support = radius(axis->filter) * widening(axis);
    unsigned real = taps->count <= axis->length ? taps->count : axis->length; /* the one for being even may not exist */
    memset(taps->weights, 0, sizeof(int16_t) * taps->count * axis->outputs);
    for (unsigned i = 0; i < axis->outputs; i++) {
        double centre = axis->start + (i + 0.5) * scale;
        unsigned first = clamp(centre - support + 0.5, axis->length - real);
        taps->first[i] = first;
        add_up(axis->filter, first + 0.5 - centre, narrowing, real, exact);
        quantize(exact, real, taps->weights + (size_t)i * taps->count);
    }
}
