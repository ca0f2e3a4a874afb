/* What the files of resampling share: weights -> sums of rows -> sums along a row. */
#ifndef CODEC_RESAMPLE_PARTS_H
#define CODEC_RESAMPLE_PARTS_H

#include "planes.h"
#include "resample.h"

enum {
    WEIGHT_BITS = 14,
    EXTRA_BITS = 6, /* kept between the passes: 255 << 6, and what a cubic overshoots, fits into 16 bits */
    ROWS_SHIFT = WEIGHT_BITS - EXTRA_BITS,
    COLUMNS_SHIFT = WEIGHT_BITS + EXTRA_BITS,
    OUTPUTS = 32 /* that are made at once: room for the columns' taps is a multiple of it */
};

/* --- Weights ------------------------------------------------------------------------------------------------------ */

/* One axis: which samples make each output, and their weights, which sum to 1 << WEIGHT_BITS. */
struct taps {
    unsigned count;   /* per output, even; some may weigh 0 */
    unsigned *first;  /* of each output, counted from the first sample that exists; never decreasing */
    int16_t *weights; /* outputs x count */
};

/* A part of one axis that becomes outputs. */
struct axis {
    codec_filter filter;
    double start, extent; /* of the box */
    unsigned length;      /* samples that exist */
    unsigned outputs;
};

/* Taps of each output: at most as many as exist, and one more for being even. */
unsigned resample_num_taps(const struct axis *axis);

/* Fill in all but `taps->count`; `exact` is room for that many doubles. */
void resample_fill_taps(const struct axis *axis, struct taps *taps, double *exact);

/* --- Rows --------------------------------------------------------------------------------------------------------- */

/* `count` rows of `length` bytes (a multiple of PLANE_ALIGNMENT), their weights, and where their sum goes. */
struct row_sum {
    const uint8_t *const *rows;
    const int16_t *weights;
    unsigned count;
    size_t length;
    int16_t *sums;
};

void resample_sum_rows(const struct row_sum *task);

/* --- Columns ------------------------------------------------------------------------------------------------------ */

/* The sums along a row: the taps, once more as vectors take them. */
struct columns {
    struct taps taps;
    unsigned outputs;
    size_t pitch;     /* of the sums of rows */
    uint8_t *vectors; /* resample_vectors_size() bytes, aligned */
    /* Outputs next to each other for which all samples that two taps see lie in half a vector; 0: not even for two. */
    unsigned together;
};

size_t resample_vectors_size(unsigned outputs, unsigned num_taps);

/* Fill in what `sum_columns` needs beside the taps. */
void resample_spread_taps(struct columns *columns);

/* Make `out`, a row of RGB pixels, of three planes of sums, behind which `ARENA_SLACK` bytes are readable. */
void resample_sum_columns(const struct columns *columns, const int16_t *sums, uint8_t *out);

#endif
