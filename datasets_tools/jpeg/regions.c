/* The part of a picture that a crop needs, fitted to the output by `resample`.
 *
 * Our own decoder takes the usual JPEGs. libjpeg-turbo takes the others, and those that are shrunk by so much that it
 * can decode them coarsely; it, too, is spared the inverse DCT of what is outside of the window, and all that follows
 * the window's last row. */
#include <string.h>

#include "arena.h"
#include "baseline.h"
#include "planes.h"
#include "reader.h"
#include "resample.h"

#define ROWS_AT_ONCE 16 /* an MCU row of 4:2:0 */
#define LEAST_COLUMNS 3

/* Rows and columns of one piece of a picture. */
struct extent {
    unsigned start, length;
};

struct region {
    struct reader reader;
    const codec_region *wanted;
    codec_memory *memory;
    unsigned denominator;        /* 1, 2, 4 or 8: how much smaller libjpeg decodes */
    struct extent rows, columns; /* of the window, in decoded pixels */
    struct extent decoded;       /* columns that libjpeg delivers: whole MCUs around those */
    uint8_t *planes;             /* the window's pixels */
};

/* The largest reduction at which the box still has as many pixels as the output. */
static unsigned denominator_for(const codec_region *wanted)
{
    unsigned denominator = 8;
    while (denominator > 1 && (wanted->box[2] < (double)denominator * wanted->out_height ||
                               wanted->box[3] < (double)denominator * wanted->out_width))
        denominator /= 2;
    return denominator;
}

static struct extent shrunk(unsigned start, unsigned length, unsigned denominator)
{
    unsigned first = start / denominator, stop = (start + length + denominator - 1) / denominator;
    return (struct extent){first, stop - first};
}

static void require_size(struct region *task)
{
    const struct jpeg_decompress_struct *source = &task->reader.source;
    const codec_region *wanted = task->wanted;
    if (source->image_height != wanted->height || source->image_width != wanted->width)
        guard_fail(&task->reader.guard, CODEC_BAD_JPEG, "is %u pixels high and %u wide, the store says %u and %u",
                   source->image_height, source->image_width, wanted->height, wanted->width);
}

static void start(struct region *task)
{
    struct jpeg_decompress_struct *source = &task->reader.source;
    reader_open(&task->reader, task->wanted->stored);
    reader_require_grey_or_colour(&task->reader);
    require_size(task);
    source->out_color_space = JCS_RGB;
    source->dct_method = JDCT_ISLOW;
    source->do_fancy_upsampling = TRUE;
    source->scale_num = 1;
    source->scale_denom = task->denominator;
    jpeg_start_decompress(source);
}

/* Leave out MCUs left and right of the window. At the edges of what is left libjpeg repeats chroma where it should look
 * beyond: a column more on each side keeps that out of the window. And it does not smooth chroma at all where a single
 * column of it is left: three of the picture's are not. */
static void crop(struct region *task)
{
    struct jpeg_decompress_struct *source = &task->reader.source;
    unsigned first = task->columns.start ? task->columns.start - 1 : 0;
    unsigned stop = task->columns.start + task->columns.length + 1;
    if (stop < LEAST_COLUMNS)
        stop = LEAST_COLUMNS;
    if (stop > source->output_width)
        stop = source->output_width;
    if (first + LEAST_COLUMNS > stop)
        first = stop < LEAST_COLUMNS ? 0 : stop - LEAST_COLUMNS;
    JDIMENSION offset = first, width = stop - first;
    jpeg_crop_scanline(source, &offset, &width);
    task->decoded = (struct extent){offset, width};
}

/* Take `count` of the window's rows, from row `first` on, apart; `pixels` is the first one's first in the window. */
static void split_rows(const struct region *task, unsigned first, unsigned count, const uint8_t *pixels, size_t stride)
{
    size_t size = plane_pitch(task->columns.length) * NUM_PLANES;
    for (unsigned i = 0; i < count; i++)
        planes_split(pixels + i * stride, task->columns.length, task->planes + (first + i) * size);
}

/* `lines` is room for ROWS_AT_ONCE decoded rows. */
static void read_rows(struct region *task, uint8_t *lines)
{
    struct jpeg_decompress_struct *source = &task->reader.source;
    size_t stride = (size_t)task->decoded.length * NUM_PLANES;
    size_t before = (size_t)(task->columns.start - task->decoded.start) * NUM_PLANES;
    JSAMPROW rows[ROWS_AT_ONCE];
    for (unsigned i = 0; i < ROWS_AT_ONCE; i++)
        rows[i] = lines + i * stride;
    if (task->rows.start)
        jpeg_skip_scanlines(source, task->rows.start);
    for (unsigned done = 0; done < task->rows.length;) {
        unsigned left = task->rows.length - done;
        unsigned count = jpeg_read_scanlines(source, rows, left < ROWS_AT_ONCE ? left : ROWS_AT_ONCE);
        split_rows(task, done, count, lines + before, stride);
        done += count;
    }
}

/* Take memory for the window's pixels, and `more` bytes behind them; NULL: no memory. */
static uint8_t *take_planes(struct region *task, size_t more)
{
    size_t size = task->rows.length * plane_pitch(task->columns.length) * NUM_PLANES;
    task->planes = arena_take(&task->memory->pixels, size + more);
    return task->planes ? task->planes + size : NULL;
}

static void decode(void *argument)
{
    struct region *task = argument;
    start(task);
    crop(task);
    uint8_t *lines = take_planes(task, (size_t)ROWS_AT_ONCE * task->decoded.length * NUM_PLANES);
    if (!lines)
        guard_fail(&task->reader.guard, CODEC_NO_MEMORY, "no memory");
    read_rows(task, lines);
}

/* The box in the coordinates of the window's decoded pixels. */
static void place_box(const struct region *task, double box[4])
{
    const double *wanted = task->wanted->box;
    box[0] = wanted[0] / task->denominator - task->rows.start;
    box[1] = wanted[1] / task->denominator - task->columns.start;
    box[2] = wanted[2] / task->denominator;
    box[3] = wanted[3] / task->denominator;
}

static codec_status fit(const struct region *task, codec_error *error)
{
    const codec_region *wanted = task->wanted;
    struct resampling resampling = {
        .planes = task->planes,
        .height = task->rows.length,
        .width = task->columns.length,
        .out = wanted->out,
        .out_height = wanted->out_height,
        .out_width = wanted->out_width,
        .filter = wanted->filter,
    };
    place_box(task, resampling.box);
    return resample(&resampling, &task->memory->tables, error);
}

static codec_status fit_stored(struct region *task, codec_error *error)
{
    const codec_region *wanted = task->wanted;
    size_t stride = (size_t)wanted->width * NUM_PLANES;
    if (!take_planes(task, 0))
        return codec_fail(error, CODEC_NO_MEMORY, "no memory");
    split_rows(task, 0, task->rows.length,
               wanted->stored.data + task->rows.start * stride + (size_t)task->columns.start * NUM_PLANES, stride);
    return fit(task, error);
}

/* By libjpeg, which judges what is damaged. */
static codec_status fit_by_libjpeg(struct region *task, codec_error *error)
{
    reader_init(&task->reader, false, error);
    bool decoded = guard_run(&task->reader.guard, decode, task);
    reader_close(&task->reader);
    return decoded ? fit(task, error) : error->status;
}

static codec_status fit_decoded(struct region *task, codec_error *error)
{
    const codec_region *wanted = task->wanted;
    codec_memory *memory = task->memory;
    codec_window window = {task->rows.start, task->columns.start, task->rows.length, task->columns.length};
    bool applies = false;
    if (task->denominator > 1)
        return fit_by_libjpeg(task, error);
    if (!memory->decoder)
        memory->decoder = codec_scratch_new();
    if (!memory->decoder || !take_planes(task, 0))
        return codec_fail(error, CODEC_NO_MEMORY, "no memory");
    codec_status status = codec_baseline_window(wanted->stored, window, wanted->height, wanted->width, task->planes,
                                                memory->decoder, &applies, error);
    if (status != CODEC_OK)
        return status;
    return applies ? fit(task, error) : fit_by_libjpeg(task, error);
}

codec_status codec_region_pixels(const codec_region *wanted, codec_memory *memory, codec_error *error)
{
    struct region task = {.wanted = wanted, .memory = memory};
    error->status = CODEC_OK;
    task.denominator = wanted->raw ? 1 : denominator_for(wanted);
    task.rows = shrunk(wanted->window[0], wanted->window[2], task.denominator);
    task.columns = shrunk(wanted->window[1], wanted->window[3], task.denominator);
    return wanted->raw ? fit_stored(&task, error) : fit_decoded(&task, error);
}

void codec_memory_free(codec_memory *memory)
{
    arena_free(&memory->pixels);
    arena_free(&memory->tables);
    codec_scratch_free(memory->decoder);
}
