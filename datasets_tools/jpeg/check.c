#include "reader.h"

struct checking {
    struct reader reader;
    codec_bytes jpeg;
};

/* Entropy-decode the only scan and drop what comes out: skipped rows are neither stored nor transformed, which takes 10
 * to 20 % less time than `jpeg_read_coefficients`. libjpeg wants one row, the last, to be read. */
static void skim(struct jpeg_decompress_struct *source)
{
    JDIMENSION stride = source->output_width * (JDIMENSION)source->output_components;
    JSAMPARRAY last = source->mem->alloc_sarray((j_common_ptr)source, JPOOL_IMAGE, stride, 1);
    jpeg_skip_scanlines(source, source->output_height - 1);
    jpeg_read_scanlines(source, last, 1);
}

static void check(void *argument)
{
    struct checking *task = argument;
    struct jpeg_decompress_struct *source = &task->reader.source;
    reader_open(&task->reader, task->jpeg);
    source->out_color_space = source->jpeg_color_space;
    source->do_fancy_upsampling = FALSE; /* rows that do not need their neighbours are skipped at less cost */
    bool in_memory = jpeg_has_multiple_scans(source);
    jpeg_start_decompress(source); /* reads all scans where there are several */
    if (!in_memory)
        skim(source);
    reader_finish(&task->reader);
}

codec_status codec_check(codec_bytes jpeg, bool *clean, codec_error *error)
{
    struct checking task = {.jpeg = jpeg};
    reader_init(&task.reader, false, error);
    guard_run(&task.reader.guard, check, &task);
    *clean = task.reader.guard.clean;
    reader_close(&task.reader);
    return error->status;
}
