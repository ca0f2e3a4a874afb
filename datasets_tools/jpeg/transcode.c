#include <string.h>

#include "reader.h"
#include "sink.h"

struct transcoding {
    struct reader reader;
    struct jpeg_compress_struct target;
    struct sink sink;
    jpeg_scan_info scans[3];
    codec_bytes jpeg;
};

/* Give each different quantization table one number: a file may redefine a number between its scans. */
static void number_tables(struct jpeg_decompress_struct *source)
{
    JQUANT_TBL *tables[3];
    int num_tables = 0;
    for (int i = 0; i < source->num_components; i++) {
        jpeg_component_info *component = &source->comp_info[i];
        int number = 0;
        while (number < num_tables && memcmp(tables[number]->quantval, component->quant_table->quantval,
                                             sizeof component->quant_table->quantval))
            number++;
        if (number == num_tables)
            tables[num_tables++] = component->quant_table;
        component->quant_tbl_no = number;
    }
    memcpy(source->quant_tbl_ptrs, tables, (size_t)num_tables * sizeof *tables);
}

/* One scan holds at most 10 blocks of an MCU (T.81, B.2.3); where there are more, each component gets its own. */
static void choose_scans(struct transcoding *task)
{
    struct jpeg_compress_struct *target = &task->target;
    int blocks = 0;
    for (int i = 0; i < target->num_components; i++)
        blocks += target->comp_info[i].h_samp_factor * target->comp_info[i].v_samp_factor;
    if (target->num_components == 1 || blocks <= C_MAX_BLOCKS_IN_MCU)
        return;
    for (int i = 0; i < target->num_components; i++)
        task->scans[i] = (jpeg_scan_info){.comps_in_scan = 1, .component_index = {i}, .Se = DCTSIZE2 - 1};
    target->scan_info = task->scans;
    target->num_scans = target->num_components;
}

/* The source's EXIF orientation, as codec_inspect has it, or codec_frame where that refuses. */
static unsigned orientation_of(codec_bytes jpeg)
{
    codec_header header;
    codec_error error;
    if (codec_inspect(jpeg, &header, &error) != CODEC_OK && codec_frame(jpeg, &header, &error) != CODEC_OK)
        return 0;
    return header.orientation;
}

/* The smallest EXIF segment: a TIFF whose directory has one entry, the orientation. Source: EXIF 2.32, section 4.5. */
static void write_orientation(struct jpeg_compress_struct *target, unsigned orientation)
{
    /* Big endian; the directory, at byte 8 of the TIFF, has one entry: tag 0x0112, one SHORT. */
    JOCTET body[] = "Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\0\0\0\0\0\0";
    body[25] = (JOCTET)orientation;
    if (orientation > 1) /* 1 is upright, and so is a picture that says nothing */
        jpeg_write_marker(target, JPEG_APP0 + 1, body, sizeof body);
}

static void transcode(void *argument)
{
    struct transcoding *task = argument;
    struct jpeg_decompress_struct *source = &task->reader.source;
    struct jpeg_compress_struct *target = &task->target;
    reader_open(&task->reader, task->jpeg);
    reader_require_grey_or_colour(&task->reader);
    jvirt_barray_ptr *coefficients = jpeg_read_coefficients(source);
    reader_finish(&task->reader);

    jpeg_create_compress(target);
    number_tables(source);
    sink_attach(&task->sink, target, task->jpeg.size + task->jpeg.size / 8 + 4096);
    /* Size, tables, sampling and colour space; libjpeg writes JFIF's or Adobe's marker, as the colour space needs. */
    jpeg_copy_critical_parameters(source, target);
    target->arith_code = FALSE;
    target->optimize_coding = TRUE;
    target->restart_in_rows = 1;
    choose_scans(task);
    jpeg_write_coefficients(target, coefficients);
    write_orientation(target, orientation_of(task->jpeg));
    jpeg_finish_compress(target);
}

codec_status codec_transcode(codec_bytes jpeg, codec_jpeg *out, codec_error *error)
{
    struct transcoding task;
    memset(&task, 0, sizeof task);
    task.jpeg = jpeg;
    reader_init(&task.reader, false, error);
    task.target.err = &task.reader.guard.manager;
    guard_run(&task.reader.guard, transcode, &task);
    jpeg_destroy_compress(&task.target);
    reader_close(&task.reader);
    sink_close(&task.sink, out, error);
    return error->status;
}
