/* Run the baseline decoder over mutated JPEGs, and hold what it takes to libjpeg. Meant for a build with sanitizers.
 *
 * usage: baseline_fuzz SEED COUNT FILE... */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "baseline.h"
#include "draw.h"
#include "planes.h"
#include "read_file.h"

#define MAX_PIXELS (1u << 20)

static codec_scratch *scratch;
static unsigned long num_taken, num_left, num_compared;

/* One change, which leaves at most `size` bytes. */
static void mutate(uint8_t *data, size_t *size)
{
    static const uint8_t codes[] = {0x00, 0xC0, 0xC1, 0xC2, 0xC4, 0xD0, 0xD3, 0xD7, 0xD9, 0xDA, 0xDB, 0xDD, 0xEE, 0xFF};
    size_t at = place(*size), from = place(*size), left = *size - (at > from ? at : from);
    switch (draw(7)) {
    case 0:
    case 1:
        data[at] ^= (uint8_t)(1u << draw(8));
        break;
    case 2:
        data[at] = (uint8_t)draw(256);
        break;
    case 3: /* a cut */
        *size = draw(*size);
        break;
    case 4: /* bytes over others */
        memmove(data + at, data + from, draw(left));
        break;
    case 5: { /* bytes lost */
        size_t count = draw(*size - at);
        memmove(data + at, data + at + count, *size - at - count);
        *size -= count;
        break;
    }
    default: /* a marker where none was */
        if (at + 1 < *size) {
            data[at] = 0xFF;
            data[at + 1] = codes[draw(sizeof codes)];
        }
    }
}

/* Whether libjpeg decodes to all the `pixels` of RGB or grey; strictly unless `tolerant`. */
static bool decode_all(codec_bytes jpeg, const codec_header *frame, bool tolerant, uint8_t *pixels)
{
    codec_error error;
    return codec_decode(jpeg, tolerant, pixels, frame->height, frame->width, frame->components, &error) == CODEC_OK;
}

static bool is_equal(const uint8_t *planes, const uint8_t *all, codec_window place, const codec_header *frame)
{
    for (size_t y = 0; y < place.height; y++)
        for (size_t x = 0; x < place.width; x++)
            for (unsigned c = 0; c < 3; c++) {
                size_t pixel = (place.top + y) * frame->width + place.left + x;
                unsigned channel = frame->components == 1 ? 0 : c;
                if (planes[(3 * y + c) * plane_pitch(place.width) + x] != all[pixel * frame->components + channel])
                    return false;
            }
    return true;
}

/* Without restarts all data before the window are read, so libjpeg comes to the same pixels, whatever follows. With
 * them some are jumped over: then the file must be sound as a whole for the pixels to be the same. */
static void compare(codec_bytes jpeg, const codec_header *frame, codec_window window, const uint8_t *planes)
{
    codec_error error;
    codec_header header;
    uint8_t *all = calloc((size_t)frame->height * frame->width, frame->components);
    bool has_restarts = codec_inspect(jpeg, &header, &error) != CODEC_OK || header.restart_interval;
    if (decode_all(jpeg, frame, !has_restarts, all)) {
        num_compared++;
        if (!is_equal(planes, all, window, frame)) {
            fprintf(stderr, "pixels differ\n");
            abort();
        }
    }
    free(all);
}

static bool try_one(codec_bytes jpeg)
{
    codec_error error;
    codec_header frame;
    bool applies = false;
    if (codec_frame(jpeg, &frame, &error) != CODEC_OK || (uint64_t)frame.height * frame.width > MAX_PIXELS)
        return false;
    codec_window window = {0, 0, frame.height, frame.width};
    if (draw(2)) {
        window.top = (unsigned)draw(frame.height);
        window.left = (unsigned)draw(frame.width);
        window.height = 1 + (unsigned)draw(frame.height - window.top);
        window.width = 1 + (unsigned)draw(frame.width - window.left);
    }
    uint8_t *planes = malloc(window.height * plane_pitch(window.width) * NUM_PLANES);
    codec_status status =
        codec_baseline_window(jpeg, window, frame.height, frame.width, planes, scratch, &applies, &error);
    if (status == CODEC_OK && applies)
        compare(jpeg, &frame, window, planes);
    free(planes);
    return applies;
}

/* The bytes lie at the very end of their block, so that one too many is seen. */
static void try_mutated(codec_bytes original)
{
    size_t size = original.size;
    uint8_t *data = malloc(size);
    memcpy(data, original.data, size);
    for (size_t changes = 1 + draw(3); changes && size; changes--)
        mutate(data, &size);
    uint8_t *exact = malloc(size ? size : 1);
    memcpy(exact, data, size);
    free(data);
    *(try_one((codec_bytes){exact, size}) ? &num_taken : &num_left) += 1;
    free(exact);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    state = 0x9E3779B97F4A7C15ULL * (1 + strtoull(argv[1], NULL, 10));
    scratch = codec_scratch_new();
    int num_files = argc - 3;
    codec_bytes *files = calloc((size_t)num_files, sizeof *files);
    for (int i = 0; i < num_files; i++)
        files[i] = read_file(argv[i + 3]);
    for (int i = 0; i < num_files; i++)
        if (!try_one(files[i])) {
            fprintf(stderr, "%s: not taken\n", argv[i + 3]);
            return 1;
        }
    for (unsigned long left = strtoul(argv[2], NULL, 10); left; left--)
        try_mutated(files[draw((size_t)num_files)]);
    printf("%lu taken, %lu of them compared, %lu left to libjpeg\n", num_taken, num_compared, num_left);
    for (int i = 0; i < num_files; i++)
        free((void *)files[i].data);
    free(files);
    codec_scratch_free(scratch);
    return 0;
}
