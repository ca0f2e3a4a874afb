/* Cut a box out of a picture and resize it: a separable filter of 16-bit weights, equal bits on every machine. */
#ifndef CODEC_RESAMPLE_H
#define CODEC_RESAMPLE_H

#include "arena.h"

/* Pixels that exist, and the box in them that becomes the output, in their coordinates. */
struct resampling {
    const uint8_t *planes; /* see planes.h; `ARENA_SLACK` bytes behind them are readable */
    unsigned height, width;
    double box[4]; /* top, left, height, width */
    uint8_t *out;  /* RGB without padding */
    unsigned out_height, out_width;
    codec_filter filter;
};

/* Source: Pillow's Resample.c: triangle or cubic (a = -0.5) filter with half-pixel centres, widened when it shrinks,
 * nothing outside of the picture. Pillow rounds to 8 bits between its two passes; here 6 bits more are kept. */
codec_status resample(const struct resampling *task, struct codec_arena *arena, codec_error *error);

#endif
