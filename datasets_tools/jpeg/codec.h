/* The codec's functions: plain C over libjpeg-turbo, without Python. They hold no state, so threads need no lock.
 *
 * All return CODEC_OK or fill in the error. Sizes are in pixels, pixels are 8-bit, row by row without padding.
 */
#ifndef CODEC_H
#define CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CODEC_MAX_SIDE 65500 /* libjpeg's JPEG_MAX_DIMENSION */

/* A few bytes make a scan of a whole picture: without a limit a small file keeps a decoder busy for hours.
 * Source: libjpeg-turbo's own fuzzers stop at 500 (fuzz/decompress.cc). */
#define CODEC_MAX_SCANS 500

typedef enum { CODEC_OK, CODEC_BAD_JPEG, CODEC_NO_MEMORY } codec_status;

typedef struct {
    codec_status status;
    char message[256]; /* a sentence without subject: the picture is */
} codec_error;

typedef struct {
    const uint8_t *data;
    size_t size;
} codec_bytes;

/* A JPEG that was written; free(data) is the caller's. */
typedef struct {
    uint8_t *data;
    size_t size;
} codec_jpeg;

/* The values are those of `datasets_tools.index.Subsampling`. */
typedef enum {
    CODEC_GREY,
    CODEC_444,
    CODEC_422,
    CODEC_420,
    CODEC_440,
    CODEC_411,
    CODEC_410,
    CODEC_OTHER = 255
} codec_subsampling;

/* What the markers say; see `datasets_tools.jpeg.JpegHeader`. */
typedef struct {
    unsigned height, width;
    unsigned precision, components;
    codec_subsampling subsampling;
    bool progressive, huffman;
    unsigned restart_interval;
    unsigned orientation;
    bool complete;
} codec_header;

/* Read the markers, to the end of the image. */
codec_status codec_inspect(codec_bytes jpeg, codec_header *header, codec_error *error);

/* Read the markers to the frame header only, as forgiving as libjpeg; what needs later markers is not filled in. */
codec_status codec_frame(codec_bytes jpeg, codec_header *header, codec_error *error);

/* Decode all coefficients; `clean`: libjpeg had nothing to say. */
codec_status codec_check(codec_bytes jpeg, bool *clean, codec_error *error);

/* Rewrite as sequential, with optimal Huffman tables, a restart marker after each row of MCUs, and no metadata but the
 * EXIF orientation. */
codec_status codec_transcode(codec_bytes jpeg, codec_jpeg *out, codec_error *error);

/* Decode to `height` x `width` x `components` (1 grey, 3 RGB), which must be what `codec_frame` says. */
codec_status codec_decode(codec_bytes jpeg, bool tolerant, uint8_t *pixels, unsigned height, unsigned width,
                          unsigned components, codec_error *error);

/* Encode grey (components 1) or RGB (3); `subsample`: 4:2:0, else 4:4:4; `quality` 1 to 100. */
codec_status codec_encode(const uint8_t *pixels, unsigned height, unsigned width, unsigned components, int quality,
                          bool subsample, codec_jpeg *out, codec_error *error);

/* Shrink by area; 1 <= out_height <= height <= CODEC_MAX_SIDE, widths likewise; components 1 or 3. */
codec_status codec_resize(const uint8_t *pixels, unsigned height, unsigned width, unsigned components, uint8_t *out,
                          unsigned out_height, unsigned out_width, codec_error *error);

typedef enum { CODEC_BILINEAR, CODEC_BICUBIC } codec_filter;

/* A sample of a store, and what is wanted of it. */
typedef struct {
    codec_bytes stored;          /* a JPEG of 1 or 3 components, or RGB pixels */
    bool raw;                    /* pixels */
    unsigned height, width;      /* of the whole picture: a JPEG that says otherwise is refused */
    unsigned window[4];          /* top, left, height, width of what may be read; inside the picture */
    double box[4];               /* of what becomes the output; inside the window */
    uint8_t *out;                /* RGB without padding */
    unsigned out_height, out_width;
    codec_filter filter;
} codec_region;

/* What a thread keeps from picture to picture; zero it before the first. */
typedef struct {
    struct codec_arena {
        uint8_t *data;
        size_t size;
    } pixels, tables;
    struct codec_scratch *decoder;
} codec_memory;

/* Decode what the box needs and resize it. Data below the window are not looked at. */
codec_status codec_region_pixels(const codec_region *region, codec_memory *memory, codec_error *error);

void codec_memory_free(codec_memory *memory);

/* The rows of a batch; arrays have one entry, or four, a row. Any number of threads may work on one. */
typedef struct {
    const uint8_t *data; /* where all samples lie */
    size_t size;
    size_t num_rows;
    const uint64_t *offsets, *sizes; /* of each sample, in `data` */
    const uint8_t *raw;
    const int32_t *heights, *widths;
    const int32_t *windows; /* top, left, height, width */
    const double *boxes;    /* likewise */
    uint8_t *out;           /* num_rows x out_height x out_width x RGB */
    unsigned out_height, out_width;
    codec_filter filter;
    uint8_t *failed;          /* set to a codec_status */
    char (*messages)[256];    /* of those that failed, terminated; their output is zeros */
    int64_t *next;            /* the first row that no thread has taken; threads share it */
} codec_batch;

/* Take rows until none is left. */
void codec_batch_work(const codec_batch *batch);

#endif
