/* Resample one made-up picture to many sizes and write the pixels, so that builds can be compared.
 *
 * usage: resample_dump COUNT */
#include <stdio.h>
#include <stdlib.h>

#include "planes.h"
#include "resample.h"

#define HEIGHT 61
#define WIDTH 83
#define PITCH 96 /* plane_pitch(WIDTH) */
#define MAX_OUTPUT 97

static uint64_t state = 0x9E3779B97F4A7C15ULL;

/* xorshift64*, below `bound`. */
static unsigned draw(unsigned bound)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (unsigned)((state * 0x2545F4914F6CDD1DULL) >> 33) % bound;
}

/* A part of [0, length), at sub-pixel places. */
static void choose(unsigned length, double *start, double *extent)
{
    *start = (length - 1) * (draw(1000) / 1000.0);
    *extent = (length - *start) * ((1 + draw(1000)) / 1000.0);
}

int main(int argc, char **argv)
{
    static uint8_t planes[HEIGHT * PITCH * NUM_PLANES + ARENA_SLACK], out[MAX_OUTPUT * MAX_OUTPUT * 3];
    struct codec_arena arena = {NULL, 0};
    for (size_t i = 0; i < sizeof planes; i++)
        planes[i] = draw(3) ? (uint8_t)draw(256) : 255 * (uint8_t)draw(2); /* a cubic overshoots where it jumps */
    for (long left = argc == 2 ? atol(argv[1]) : 0; left; left--) {
        struct resampling task = {.planes = planes, .height = HEIGHT, .width = WIDTH, .out = out};
        codec_error error;
        choose(HEIGHT, &task.box[0], &task.box[2]);
        choose(WIDTH, &task.box[1], &task.box[3]);
        task.out_height = 1 + draw(MAX_OUTPUT);
        task.out_width = 1 + draw(MAX_OUTPUT);
        task.filter = draw(2) ? CODEC_BICUBIC : CODEC_BILINEAR;
        if (resample(&task, &arena, &error) != CODEC_OK)
            return 1;
        fwrite(out, 3, (size_t)task.out_height * task.out_width, stdout);
    }
    arena_free(&arena);
    return 0;
}
