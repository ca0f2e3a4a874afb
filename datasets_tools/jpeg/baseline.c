/* A window of a baseline JPEG: which MCUs it needs, and its rows as soon as their samples are there. */
#include <string.h>

#include "baseline_scratch.h"
#include "error.h"

static const uint8_t natural_order[COEFFICIENTS] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

/* Past all overflow of 16 bits that libjpeg's decoders disagree on; no picture has a DC coefficient beyond 1024. */
enum { LARGEST_DC = 8191 };

static unsigned divide_up(unsigned value, unsigned by)
{
    return (value + by - 1) / by;
}

/* The blocks that hold the samples of the pixels [first, first + count), where `factor` pixels share one of `size`
 * samples; then each is mixed with the nearer of its neighbours. */
static struct range needed_blocks(unsigned first, unsigned count, unsigned factor, unsigned size)
{
    unsigned last = first + count - 1, low = first, high = last;
    if (factor == 2) {
        low = first / 2 - (first % 2 || !first ? 0 : 1);
        high = last / 2 + last % 2;
    }
    high = high < size ? high : size - 1;
    return (struct range){low / BLOCK, high / BLOCK + 1};
}

static bool set_component(struct codec_scratch *scratch, const struct frame *frame, unsigned index,
                          codec_window window)
{
    const struct frame_component *source = &frame->components[index];
    struct component *component = &scratch->decoder.components[index];
    /* The scan of a single component has MCUs of one block, whatever its factors are. */
    unsigned horizontal = frame->num_components > 1 ? source->horizontal : 1;
    unsigned vertical = frame->num_components > 1 ? source->vertical : 1;
    unsigned columns = frame->num_components > 1 ? frame->components[0].horizontal / horizontal : 1;
    unsigned rows = frame->num_components > 1 ? frame->components[0].vertical / vertical : 1;
    component->horizontal = horizontal;
    component->vertical = vertical;
    component->width = divide_up(frame->width, columns);
    component->height = divide_up(frame->height, rows);
    component->columns = needed_blocks(window.left, window.width, columns, component->width);
    component->rows = needed_blocks(window.top, window.height, rows, component->height);
    const uint8_t *quantization = frame->quantization[source->quantization];
    for (int i = 0; i < COEFFICIENTS; i++)
        component->quantization[natural_order[i]] = quantization[i];
    component->largest = quantization[0] ? LARGEST_DC / quantization[0] : 0;
    component->predictor = 0;
    component->dc = scratch_dc(scratch, frame->dc[source->dc]);
    component->ac = scratch_ac(scratch, frame->ac[source->ac]);
    return component->dc && component->ac;
}

/* Lay out the samples: a row of MCUs, with the last row of samples of the one before it above. */
static bool reserve(struct codec_scratch *scratch, codec_window window, size_t coded_size)
{
    struct decoder *decoder = &scratch->decoder;
    size_t size = 0;
    for (unsigned i = 0; i < decoder->num_components; i++) {
        struct component *component = &decoder->components[i];
        component->stride = (size_t)(component->columns.end - component->columns.first) * BLOCK + 3 * VECTOR;
        size += component->stride * (1 + component->vertical * BLOCK);
    }
    size_t line = window.width + 4 * VECTOR;
    if (!scratch_reserve(&scratch->samples, size) || !scratch_reserve(&scratch->lines, 2 * line) ||
        !scratch_reserve(&scratch->coded, coded_size + READ_AHEAD + VECTOR))
        return false;
    uint8_t *samples = scratch->samples.bytes;
    for (unsigned i = 0; i < decoder->num_components; i++) {
        struct component *component = &decoder->components[i];
        component->samples = samples + component->stride + VECTOR;
        samples += component->stride * (1 + component->vertical * BLOCK);
    }
    return true;
}

static void start_scan(struct codec_scratch *scratch, const struct frame *frame, codec_bytes jpeg)
{
    struct decoder *decoder = &scratch->decoder;
    const struct component *luma = &decoder->components[0];
    decoder->mcus_per_row = divide_up(frame->width, luma->horizontal * BLOCK);
    decoder->restart_interval = frame->restart_interval;
    decoder->position = 0;
    decoder->restart_at = frame->restart_interval ? frame->restart_interval : SIZE_MAX;
    memset(&decoder->pair, 0, sizeof decoder->pair);
    decoder->kernels = codec_kernels();
    decoder->segment =
        (struct segment){.raw = frame->scan, .raw_end = jpeg.data + jpeg.size, .bytes = scratch->coded.bytes};
    codec_open_segment(decoder->kernels, &decoder->segment);
}

/* Go on in the segment that `mcu` is in, at its beginning. */
static bool jump(struct decoder *decoder, size_t mcu)
{
    size_t interval = decoder->restart_interval;
    bool is_at_end = decoder->position == decoder->restart_at;
    if ((is_at_end && has_left_over(&decoder->segment)) ||
        !codec_next_segment(decoder->kernels, &decoder->segment, (mcu - decoder->restart_at) / interval + 1))
        return false;
    decoder->position = mcu / interval * interval;
    decoder->restart_at = decoder->position + interval;
    for (unsigned i = 0; i < decoder->num_components; i++)
        decoder->components[i].predictor = 0;
    return true;
}

/* Read MCUs up to `end`, which no row follows. */
static bool read_to(struct decoder *decoder, size_t end)
{
    while (decoder->position < end) {
        if (decoder->position == decoder->restart_at && !jump(decoder, decoder->position))
            return false;
        size_t row = decoder->position / decoder->mcus_per_row, column = decoder->position % decoder->mcus_per_row;
        size_t stop = (row + 1) * decoder->mcus_per_row;
        stop = stop < end ? stop : end;
        stop = stop < decoder->restart_at ? stop : decoder->restart_at;
        if (!decoder->kernels->read_mcus(decoder, (unsigned)row, (unsigned)column,
                                         (unsigned)(stop - decoder->position)))
            return false;
        decoder->position = stop;
    }
    return true;
}

/* Read the MCUs [first, end) of a row, from the last restart before them on. */
static bool read_row(struct decoder *decoder, unsigned row, struct range mcus)
{
    size_t start = (size_t)row * decoder->mcus_per_row, first = start + mcus.first;
    if (first >= decoder->restart_at && !jump(decoder, first))
        return false;
    if (!read_to(decoder, start + mcus.end))
        return false;
    if (decoder->pair.count)
        decoder->kernels->transform(&decoder->pair);
    return true;
}

/* The MCUs, in one direction, that hold blocks which some component needs. */
static struct range needed_mcus(const struct decoder *decoder, bool vertical)
{
    struct range all = {UINT32_MAX, 0};
    for (unsigned i = 0; i < decoder->num_components; i++) {
        const struct component *component = &decoder->components[i];
        struct range blocks = vertical ? component->rows : component->columns;
        unsigned factor = vertical ? component->vertical : component->horizontal;
        unsigned first = blocks.first / factor, end = divide_up(blocks.end, factor);
        all.first = first < all.first ? first : all.first;
        all.end = end > all.end ? end : all.end;
    }
    return all;
}

/* Let the samples at the picture's edges be their own neighbours. */
static void extend_columns(const struct component *component)
{
    for (unsigned row = 0; row < component->vertical * BLOCK; row++) {
        uint8_t *samples = component->samples + row * component->stride;
        if (!component->columns.first)
            samples[-1] = samples[0];
        if (component->columns.end * BLOCK >= component->width) {
            size_t end = component->width - component->columns.first * BLOCK;
            samples[end] = samples[end - 1];
        }
    }
}

static void keep_last_row(const struct component *component)
{
    uint8_t *first = component->samples - VECTOR;
    memcpy(first - component->stride, first + (component->vertical * BLOCK - 1) * component->stride,
           component->stride);
}

/* The picture's rows [next, end), as they go into the window. */
struct output {
    struct decoder *decoder;
    codec_window window;
    uint8_t *planes;
    unsigned next, end;
    uint8_t *lines[2];
};

/* Row `y` of a component, which lies in the row of MCUs `mcu_row` or right above, from the window's first sample on. */
static const uint8_t *sample_row(const struct component *component, unsigned y, unsigned mcu_row, unsigned left)
{
    ptrdiff_t row = (ptrdiff_t)y - (ptrdiff_t)(mcu_row * component->vertical * BLOCK);
    return component->samples + row * (ptrdiff_t)component->stride + (left - component->columns.first * BLOCK);
}

/* The row of chroma that is mixed in with the nearest one to row `y`. */
static unsigned far_row(const struct component *chroma, unsigned y)
{
    if (y % 2)
        return y / 2 + 1 < chroma->height ? y / 2 + 1 : y / 2;
    return y ? y / 2 - 1 : 0;
}

/* Row `y` of chroma at full size; into `line` where it is not. */
static const uint8_t *full_row(const struct output *output, const struct component *chroma, unsigned y,
                               unsigned mcu_row, uint8_t *line)
{
    const struct component *luma = &output->decoder->components[0];
    const struct kernels *kernels = output->decoder->kernels;
    unsigned left = output->window.left / luma->horizontal, odd = output->window.left % luma->horizontal;
    const uint8_t *near = sample_row(chroma, y / luma->vertical, mcu_row, left);
    size_t count = divide_up(output->window.width + odd, luma->horizontal);
    if (luma->vertical == 1 && luma->horizontal == 1)
        return near;
    if (luma->vertical == 1)
        kernels->widen(near, line, count);
    else {
        const uint8_t *far = sample_row(chroma, far_row(chroma, y), mcu_row, left);
        if (luma->horizontal == 2)
            kernels->widen_between(near, far, line, count);
        else
            kernels->between(near, far, 1 + y % 2, line, count);
    }
    return line + odd;
}

static void put_row(const struct output *output, unsigned y, unsigned mcu_row)
{
    const struct decoder *decoder = output->decoder;
    const struct component *components = decoder->components;
    size_t pitch = plane_pitch(output->window.width);
    uint8_t *row = output->planes + (y - output->window.top) * pitch * NUM_PLANES;
    const uint8_t *luma = sample_row(&components[0], y, mcu_row, output->window.left);
    if (decoder->num_components == 1) {
        for (unsigned plane = 0; plane < NUM_PLANES; plane++)
            memcpy(row + plane * pitch, luma, output->window.width);
        return;
    }
    const uint8_t *cb = full_row(output, &components[1], y, mcu_row, output->lines[0]);
    const uint8_t *cr = full_row(output, &components[2], y, mcu_row, output->lines[1]);
    decoder->kernels->to_planes(luma, cb, cr, row, output->window.width);
}

/* Write the rows that have all their samples after the row of MCUs `mcu_row`. */
static void put_rows(struct output *output, unsigned mcu_row)
{
    const struct decoder *decoder = output->decoder;
    const struct component *luma = &decoder->components[0], *chroma = &decoder->components[1];
    for (; output->next < output->end && output->next < (mcu_row + 1) * luma->vertical * BLOCK; output->next++) {
        if (luma->vertical == 2 && far_row(chroma, output->next) >= (mcu_row + 1) * BLOCK)
            break;
        put_row(output, output->next, mcu_row);
    }
    for (unsigned i = 0; i < decoder->num_components; i++)
        keep_last_row(&decoder->components[i]);
}

static bool decode(struct output *output)
{
    struct decoder *decoder = output->decoder;
    struct range rows = needed_mcus(decoder, true), columns = needed_mcus(decoder, false);
    for (unsigned row = rows.first; row < rows.end; row++) {
        if (!read_row(decoder, row, columns))
            return false;
        if (decoder->components[0].horizontal == 2)
            for (unsigned i = 1; i < decoder->num_components; i++)
                extend_columns(&decoder->components[i]);
        put_rows(output, row);
    }
    return true;
}

static bool is_inside(codec_window window, unsigned height, unsigned width)
{
    return window.height && window.width && window.top < height && window.left < width &&
           window.height <= height - window.top && window.width <= width - window.left;
}

codec_status codec_baseline_window(codec_bytes jpeg, codec_window window, unsigned height, unsigned width,
                                   uint8_t *planes, codec_scratch *scratch, bool *applies, codec_error *error)
{
    struct frame frame;
    struct decoder *decoder = &scratch->decoder;
    *applies = false;
    if (!codec_read_frame(jpeg, &frame) || frame.height != height || frame.width != width ||
        !is_inside(window, height, width))
        return CODEC_OK;
    decoder->num_components = frame.num_components;
    scratch->picture++;
    for (unsigned i = 0; i < frame.num_components; i++)
        if (!set_component(scratch, &frame, i, window))
            return CODEC_OK;
    if (!reserve(scratch, window, (size_t)(jpeg.data + jpeg.size - frame.scan)))
        return codec_fail(error, CODEC_NO_MEMORY, "no memory");
    start_scan(scratch, &frame, jpeg);
    uint8_t *lines = scratch->lines.bytes;
    struct output output = {decoder, window, planes, window.top, window.top + window.height,
                            {lines + VECTOR, lines + VECTOR + scratch->lines.size / 2}};
    *applies = decode(&output);
    return CODEC_OK;
}
