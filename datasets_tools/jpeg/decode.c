#include "reader.h"

#define ROWS_AT_ONCE 16 /* an MCU row of 4:2:0 */

struct decoding {
    struct reader reader;
    codec_bytes jpeg;
    uint8_t *pixels;
    unsigned height, width, components;
};

static void read_rows(struct decoding *task)
{
    struct jpeg_decompress_struct *source = &task->reader.source;
    size_t stride = (size_t)task->width * task->components;
    JSAMPROW rows[ROWS_AT_ONCE];
    while (source->output_scanline < source->output_height) {
        unsigned first = source->output_scanline, count = source->output_height - first;
        if (count > ROWS_AT_ONCE)
            count = ROWS_AT_ONCE;
        for (unsigned i = 0; i < count; i++)
            rows[i] = task->pixels + (first + i) * stride;
        jpeg_read_scanlines(source, rows, count);
    }
}

static void decode(void *argument)
{
    struct decoding *task = argument;
    struct jpeg_decompress_struct *source = &task->reader.source;
    reader_open(&task->reader, task->jpeg);
    reader_require_grey_or_colour(&task->reader);
    source->out_color_space = source->num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    source->dct_method = JDCT_ISLOW;
    source->do_fancy_upsampling = TRUE;
    jpeg_start_decompress(source);
    if (source->output_height != task->height || source->output_width != task->width ||
        (unsigned)source->output_components != task->components)
        guard_fail(&task->reader.guard, CODEC_BAD_JPEG, "is a broken JPEG: its frame headers disagree");
    read_rows(task);
    if (task->reader.guard.tolerant)
        return; /* whatever follows the last row */
    reader_finish(&task->reader);
}

/* Where the marker stands that libjpeg could not take. */
static size_t broken_segment(const struct decoding *task)
{
    const struct jpeg_source_mgr *input = task->reader.source.src;
    size_t left = input ? input->bytes_in_buffer + 2 : task->jpeg.size; /* FF and the marker's code are read */
    return left < task->jpeg.size ? task->jpeg.size - left : 0;
}

static void run(struct decoding *task, bool tolerant, codec_error *error)
{
    reader_init(&task->reader, tolerant, error);
    guard_run(&task->reader.guard, decode, task);
}

codec_status codec_decode(codec_bytes jpeg, bool tolerant, uint8_t *pixels, unsigned height, unsigned width,
                          unsigned components, codec_error *error)
{
    struct decoding task = {.jpeg = jpeg, .pixels = pixels, .height = height, .width = width, .components = components};
    run(&task, tolerant, error);
    if (tolerant && error->status == CODEC_BAD_JPEG) {
        /* What came before a segment that libjpeg refuses, as if the file ended there. */
        size_t usable = broken_segment(&task);
        reader_close(&task.reader);
        if (!usable)
            return error->status;
        task.jpeg.size = usable;
        codec_error second;
        run(&task, tolerant, &second);
        if (second.status == CODEC_OK)
            *error = second;
    }
    reader_close(&task.reader);
    return error->status;
}
