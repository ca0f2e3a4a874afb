/* Run every function of the codec over mutated JPEGs, and hold them to each other. Meant for a build with sanitizers.
 *
 * usage: jpeg_fuzz SEED COUNT FILE... */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "draw.h"
#include "read_file.h"

#define MAX_FILES 256
#define MAX_PIXELS (1u << 20) /* conversion, too, refuses absurd sizes before it decodes */

static codec_bytes files[MAX_FILES];
static int num_files;
static unsigned long num_decoded, num_refused;

static void require(bool condition, const char *what, const codec_error *error)
{
    if (condition)
        return;
    fprintf(stderr, "%s: %s\n", what, error->message);
    abort();
}

static void copy_range(uint8_t *data, size_t *size, codec_bytes from)
{
    size_t start = place(from.size), count = draw(from.size - start), to = place(*size);
    memmove(data + to + count, data + to, *size - to);
    memcpy(data + to, from.data + start, count);
    *size += count;
}

/* One change; `data` has room for twice the largest file on top of `size`. */
static void mutate(uint8_t *data, size_t *size, codec_bytes original)
{
    static const uint8_t codes[] = {0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC9, 0xD0, 0xD3, 0xD8,
                                    0xD9, 0xDA, 0xDB, 0xDD, 0xE0, 0xE1, 0xEE, 0xFE, 0xFF};
    size_t at = place(*size);
    switch (draw(8)) {
    case 0:
        data[at] ^= (uint8_t)(1u << draw(8));
        break;
    case 1:
        data[at] = (uint8_t)draw(256);
        break;
    case 2: /* a cut */
        *size = draw(*size);
        break;
    case 3: /* a cut that looks whole */
        *size = draw(*size);
        memcpy(data + *size, "\xff\xd9", 2);
        *size += 2;
        break;
    case 4: /* bytes lost */
        memmove(data + at, data + at + draw(*size - at), *size - at);
        *size = at + draw(*size - at);
        break;
    case 5: /* bytes twice */
        copy_range(data, size, original);
        break;
    case 6: /* another file's bytes */
        copy_range(data, size, files[draw((size_t)num_files)]);
        break;
    default: /* a marker where none was */
        if (at + 1 < *size) {
            data[at] = 0xFF;
            data[at + 1] = codes[draw(sizeof codes)];
        }
    }
}

static void try_pixels(const uint8_t *pixels, const codec_header *frame)
{
    codec_error error;
    codec_jpeg jpeg;
    unsigned height = 1 + (unsigned)draw(frame->height), width = 1 + (unsigned)draw(frame->width);
    uint8_t *small = malloc((size_t)height * width * frame->components);
    codec_resize(pixels, frame->height, frame->width, frame->components, small, height, width, &error);
    codec_status status =
        codec_encode(small, height, width, frame->components, 1 + (int)draw(100), draw(2), &jpeg, &error);
    require(status == CODEC_OK, "decoded pixels are encoded", &error);
    free(small);
    free(jpeg.data);
}

static void try_decode(codec_bytes jpeg, const codec_header *frame, bool tolerant, bool sound)
{
    codec_error error;
    uint8_t *pixels = calloc((size_t)frame->height * frame->width, frame->components);
    codec_status status =
        codec_decode(jpeg, tolerant, pixels, frame->height, frame->width, frame->components, &error);
    if (status == CODEC_OK)
        try_pixels(pixels, frame);
    if (!tolerant)
        require((status == CODEC_OK) == sound, "decode and check agree", &error);
    if (sound)
        require(status == CODEC_OK, "what passes the check decodes", &error);
    free(pixels);
}

static void try_transcode(codec_bytes jpeg, bool sound)
{
    codec_error error;
    codec_jpeg out;
    codec_header header;
    bool clean;
    if (codec_transcode(jpeg, &out, &error) != CODEC_OK) {
        /* Damaged data may hold coefficients that no encoder takes. */
        require(!sound || strstr(error.message, "DCT coefficient"), "what passes the check is transcoded",
                &error);
        return;
    }
    require(sound, "what fails the check is not transcoded", &error);
    codec_bytes written = {out.data, out.size};
    require(codec_check(written, &clean, &error) == CODEC_OK && clean, "a transcoded JPEG is clean", &error);
    require(codec_inspect(written, &header, &error) == CODEC_OK, "a transcoded JPEG has whole markers", &error);
    require(header.complete && header.huffman && !header.progressive && header.restart_interval,
            "a transcoded JPEG is sequential with restarts", &error);
    free(out.data);
}

/* A window that is not resized shows the pixels of the whole picture. Where rows above it are damaged in a way that only
 * the whole picture shows, or below it, the two may disagree about whether it can be decoded. */
static void require_equal(const uint8_t *region, const codec_region *wanted, const uint8_t *whole,
                          const codec_header *frame)
{
    static const codec_error differs = {CODEC_OK, "pixels differ"};
    for (unsigned y = 0; y < wanted->window[2]; y++)
        for (unsigned x = 0; x < 3 * wanted->window[3]; x++) {
            size_t row = wanted->window[0] + y, column = wanted->window[1] + x / 3;
            size_t pixel = row * frame->width + column;
            uint8_t expected = frame->components == 1 ? whole[pixel] : whole[3 * pixel + x % 3];
            require(region[(size_t)y * 3 * wanted->window[3] + x] == expected, "a region is a part of the whole",
                    &differs);
        }
}

static void try_region(codec_bytes jpeg, const codec_header *frame, bool sound)
{
    codec_error error;
    codec_memory memory = {0};
    codec_region wanted = {.stored = jpeg, .height = frame->height, .width = frame->width};
    bool resized = draw(2);
    wanted.window[2] = 1 + (unsigned)draw(frame->height);
    wanted.window[3] = 1 + (unsigned)draw(frame->width);
    wanted.window[0] = (unsigned)draw(frame->height - wanted.window[2] + 1);
    wanted.window[1] = (unsigned)draw(frame->width - wanted.window[3] + 1);
    for (int i = 0; i < 4; i++)
        wanted.box[i] = wanted.window[i];
    wanted.out_height = resized ? 1 + (unsigned)draw(64) : wanted.window[2];
    wanted.out_width = resized ? 1 + (unsigned)draw(64) : wanted.window[3];
    wanted.filter = draw(2) ? CODEC_BICUBIC : CODEC_BILINEAR;
    wanted.out = malloc((size_t)wanted.out_height * wanted.out_width * 3);
    codec_status status = codec_region_pixels(&wanted, &memory, &error);
    require(!sound || status == CODEC_OK, "a region of a sound picture decodes", &error);
    /* Of scans that stop early libjpeg smooths blocks, by what it decoded of their neighbours. (Of arithmetic coding the
     * header does not tell whether it is progressive.) */
    if (sound && !resized && frame->huffman && !frame->progressive) {
        uint8_t *whole = malloc((size_t)frame->height * frame->width * frame->components);
        codec_decode(jpeg, false, whole, frame->height, frame->width, frame->components, &error);
        require_equal(wanted.out, &wanted, whole, frame);
        free(whole);
    }
    free(wanted.out);
    codec_memory_free(&memory);
}

/* `data` lies at the very end of its block, so that one byte too many is seen. */
static void try_all(codec_bytes jpeg)
{
    codec_error error;
    codec_header header, frame;
    bool clean;
    codec_inspect(jpeg, &header, &error);
    if (codec_frame(jpeg, &frame, &error) == CODEC_OK && (uint64_t)frame.height * frame.width > MAX_PIXELS)
        return;
    bool sound = codec_check(jpeg, &clean, &error) == CODEC_OK;
    *(sound ? &num_decoded : &num_refused) += 1;
    if (codec_frame(jpeg, &frame, &error) != CODEC_OK)
        require(!sound, "what has no frame fails the check", &error);
    else if (frame.components == 1 || frame.components == 3) {
        try_decode(jpeg, &frame, false, sound);
        try_decode(jpeg, &frame, true, sound);
        try_transcode(jpeg, sound);
        for (int i = 0; i < 4; i++)
            try_region(jpeg, &frame, sound);
    }
}

static void try_one(void)
{
    codec_bytes original = files[draw((size_t)num_files)];
    size_t largest = 0;
    for (int i = 0; i < num_files; i++)
        largest = files[i].size > largest ? files[i].size : largest;
    size_t changes = 1 + draw(3), size = original.size;
    uint8_t *data = malloc(size + (changes + 1) * largest);
    memcpy(data, original.data, size);
    for (size_t i = 0; i < changes; i++)
        mutate(data, &size, original);
    uint8_t *exact = malloc(size ? size : 1);
    memcpy(exact, data, size);
    free(data);
    try_all((codec_bytes){exact, size});
    free(exact);
}

int main(int argc, char **argv)
{
    if (argc < 4 || argc - 3 > MAX_FILES)
        return 2;
    state = 0x9E3779B97F4A7C15ULL * (1 + strtoull(argv[1], NULL, 10));
    for (num_files = 0; num_files < argc - 3; num_files++)
        files[num_files] = read_file(argv[num_files + 3]);
    for (int i = 0; i < num_files; i++)
        try_all(files[i]);
    for (unsigned long left = strtoul(argv[2], NULL, 10); left; left--)
        try_one();
    printf("%lu pass the check, %lu fail it\n", num_decoded, num_refused);
    for (int i = 0; i < num_files; i++)
        free((void *)files[i].data);
    return 0;
}
