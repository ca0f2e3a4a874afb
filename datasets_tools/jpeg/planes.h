/* Pixels on their way from decoding to resampling: of each row first all red samples, then all green, then all blue, so
 * that vectors hold one colour. */
#ifndef CODEC_PLANES_H
#define CODEC_PLANES_H

#include <stddef.h>
#include <stdint.h>

enum { NUM_PLANES = 3, PLANE_ALIGNMENT = 32 };

/* Samples from the first of a colour to the first of the next one, of which `width` count; a row has three times as
 * many, and is followed by the next. */
static inline size_t plane_pitch(unsigned width)
{
    return ((size_t)width + PLANE_ALIGNMENT - 1) / PLANE_ALIGNMENT * PLANE_ALIGNMENT;
}

/* Take a row of pixels apart; what is in `row` behind the `width` samples of each colour is left. */
void planes_split(const uint8_t *rgb, unsigned width, uint8_t *row);

#endif
