/* Hold windows of JPEGs, as the baseline decoder has them, to libjpeg's full decode.
 *
 * usage: baseline_windows SEED COUNT FILE...
 * Prints, for each file, the number of its windows that the decoder took; fails at the first wrong pixel, or byte
 * written behind the window. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include "baseline.h"
#include "planes.h"
#include "read_file.h"

#define GAP 7 /* bytes behind the last row that belong to somebody else */
#define FOREIGN 0xA5

static uint64_t state;

static unsigned draw(unsigned bound)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (unsigned)((state * 0x2545F4914F6CDD1DULL) >> 33) % bound;
}

/* libjpeg's own pixels, always RGB. */
static uint8_t *decode_all(codec_bytes jpeg, unsigned *height, unsigned *width)
{
    struct jpeg_decompress_struct source;
    struct jpeg_error_mgr errors;
    source.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&source);
    jpeg_mem_src(&source, jpeg.data, jpeg.size);
    jpeg_read_header(&source, TRUE);
    source.out_color_space = JCS_RGB;
    source.dct_method = JDCT_ISLOW;
    source.do_fancy_upsampling = TRUE;
    jpeg_start_decompress(&source);
    size_t stride = 3 * (size_t)source.output_width;
    uint8_t *pixels = malloc(stride * source.output_height);
    while (source.output_scanline < source.output_height) {
        JSAMPROW row = pixels + stride * source.output_scanline;
        jpeg_read_scanlines(&source, &row, 1);
    }
    *height = source.output_height;
    *width = source.output_width;
    jpeg_finish_decompress(&source);
    jpeg_destroy_decompress(&source);
    return pixels;
}

/* All of the picture, its corners and edges, single pixels, and anything. */
static codec_window choose(unsigned number, unsigned height, unsigned width)
{
    unsigned bottom = height - 1, right = width - 1;
    switch (number) {
    case 0:
        return (codec_window){0, 0, height, width};
    case 1:
        return (codec_window){0, 0, 1, 1};
    case 2:
        return (codec_window){bottom, right, 1, 1};
    case 3:
        return (codec_window){bottom, 0, 1, width};
    case 4:
        return (codec_window){0, right, height, 1};
    case 5:
        return (codec_window){draw(height), draw(width), 1, 1};
    default: {
        unsigned top = draw(height), left = draw(width);
        return (codec_window){top, left, 1 + draw(height - top), 1 + draw(width - left)};
    }
    }
}

/* Whether a row of a window's planes is that of the picture's pixels. */
static bool is_equal(const uint8_t *row, const uint8_t *pixels, unsigned width)
{
    for (unsigned x = 0; x < width; x++)
        for (unsigned plane = 0; plane < NUM_PLANES; plane++)
            if (row[plane * plane_pitch(width) + x] != pixels[(size_t)x * NUM_PLANES + plane])
                return false;
    return true;
}

/* Whether the decoder took the window. */
static bool try_window(codec_bytes jpeg, codec_window window, const uint8_t *all, unsigned height, unsigned width,
                       codec_scratch *scratch)
{
    codec_error error;
    bool applies;
    size_t row_size = NUM_PLANES * plane_pitch(window.width), size = row_size * window.height;
    uint8_t *planes = malloc(size + GAP), foreign[GAP];
    memset(planes, FOREIGN, size + GAP);
    memset(foreign, FOREIGN, GAP);
    if (codec_baseline_window(jpeg, window, height, width, planes, scratch, &applies, &error) != CODEC_OK)
        exit(2);
    for (unsigned y = 0; y < window.height && applies; y++) {
        const uint8_t *pixels = all + NUM_PLANES * ((size_t)(window.top + y) * width + window.left);
        if (!is_equal(planes + row_size * y, pixels, window.width) || memcmp(planes + size, foreign, GAP)) {
            printf("row %u of the window %u, %u, %u, %u of %u x %u differs\n", y, window.top, window.left,
                   window.height, window.width, height, width);
            exit(1);
        }
    }
    free(planes);
    return applies;
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    state = 0x9E3779B97F4A7C15ULL * (1 + strtoull(argv[1], NULL, 10));
    codec_scratch *scratch = codec_scratch_new();
    for (int i = 3; i < argc; i++) {
        unsigned height, width, taken = 0;
        codec_bytes jpeg = read_file(argv[i]);
        printf("%s ", argv[i]);
        uint8_t *all = decode_all(jpeg, &height, &width);
        for (unsigned number = 0; number < strtoul(argv[2], NULL, 10); number++)
            taken += try_window(jpeg, choose(number, height, width), all, height, width, scratch);
        printf("%u\n", taken);
        free(all);
        free((void *)jpeg.data);
    }
    codec_scratch_free(scratch);
    return 0;
}
