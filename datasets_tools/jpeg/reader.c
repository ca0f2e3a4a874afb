#include "reader.h"

#include <string.h>

/* Coefficients of the largest picture that conversion takes, 179 million pixels of 4:4:4, are 1 GiB. */
#define MAX_MEMORY 0x7fffffffL
#define PRECISION 8

static void on_progress(j_common_ptr object)
{
    struct jpeg_decompress_struct *source = (struct jpeg_decompress_struct *)object;
    if (source->input_scan_number > CODEC_MAX_SCANS)
        guard_fail((struct guard *)source->err, CODEC_BAD_JPEG, "has over %d scans", CODEC_MAX_SCANS);
}

void reader_init(struct reader *reader, bool tolerant, codec_error *error)
{
    memset(reader, 0, sizeof *reader);
    guard_init(&reader->guard, tolerant, error);
    reader->source.err = &reader->guard.manager;
    reader->progress.progress_monitor = on_progress;
}

/* libjpeg cannot upsample by fractions, but says so only when it comes to pixels. */
static void require_whole_ratios(struct reader *reader)
{
    const struct jpeg_decompress_struct *source = &reader->source;
    for (int i = 0; i < source->num_components; i++) {
        const jpeg_component_info *component = &source->comp_info[i];
        if (source->max_h_samp_factor % component->h_samp_factor ||
            source->max_v_samp_factor % component->v_samp_factor)
            guard_fail(&reader->guard, CODEC_BAD_JPEG, "is subsampled by %d:%d x %d:%d; whole ratios are taken",
                       source->max_h_samp_factor, component->h_samp_factor, source->max_v_samp_factor,
                       component->v_samp_factor);
    }
}

void reader_open(struct reader *reader, codec_bytes jpeg)
{
    struct jpeg_decompress_struct *source = &reader->source;
    reader->guard.input = jpeg.data;
    jpeg_create_decompress(source);
    source->mem->max_memory_to_use = MAX_MEMORY;
    source->progress = &reader->progress;
    jpeg_mem_src(source, jpeg.data, jpeg.size);
    jpeg_read_header(source, TRUE);
    if (source->data_precision != PRECISION)
        guard_fail(&reader->guard, CODEC_BAD_JPEG, "has samples of %d bits; %d are taken", source->data_precision,
                   PRECISION);
    require_whole_ratios(reader);
}

void reader_require_grey_or_colour(struct reader *reader)
{
    int components = reader->source.num_components;
    if (components != 1 && components != 3)
        guard_fail(&reader->guard, CODEC_BAD_JPEG, "has %d components; 1 and 3 are taken", components);
}

void reader_finish(struct reader *reader)
{
    /* Not jpeg_finish_decompress, which also frees what the next lines look at. */
    while (jpeg_consume_input(&reader->source) != JPEG_REACHED_EOI)
        continue;
    if (reader->guard.ended)
        guard_fail(&reader->guard, CODEC_BAD_JPEG, "ends early: it has no end-of-image marker");
    for (int i = 0; i < reader->source.num_components; i++)
        if (!reader->source.comp_info[i].quant_table) /* libjpeg keeps it at a component's first scan */
            guard_fail(&reader->guard, CODEC_BAD_JPEG, "ends early: no scan of component %d of %d", i + 1,
                       reader->source.num_components);
}

void reader_close(struct reader *reader)
{
    jpeg_destroy_decompress(&reader->source);
}
