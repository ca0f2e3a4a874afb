/* Make a JPEG of a kind that Pillow cannot write, from raw RGB pixels on standard input.
 *
 * usage: jpeg_make WIDTH HEIGHT FILE [arithmetic] [progressive] [separate] [rgb] [wide-tables] [early-end]
 *                  [scans=N] [sampling=HV,HV,HV]
 *
 * separate: each component in its own scan. wide-tables: 16-bit quantization tables. early-end: the refining scans of a
 * progressive file are left out. scans=N: N scans that add nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

static jpeg_scan_info scans[1000];

static void set_scans(struct jpeg_compress_struct *target, int count)
{
    target->scan_info = scans;
    target->num_scans = count;
}

static void separate_scans(struct jpeg_compress_struct *target)
{
    for (int i = 0; i < 3; i++)
        scans[i] = (jpeg_scan_info){1, {i}, 0, 63, 0, 0};
    set_scans(target, 3);
}

/* DC, then the first AC coefficient, bit by bit as often as allowed. */
static void many_scans(struct jpeg_compress_struct *target, int count)
{
    int made = 0;
    scans[made++] = (jpeg_scan_info){3, {0, 1, 2}, 0, 0, 0, 0};
    for (int k = 1; k <= 63; k++)
        for (int c = 0; c < 3; c++)
            for (int bit = 10; bit >= 0 && made < count; bit--)
                scans[made++] = (jpeg_scan_info){1, {c}, k, k, bit == 10 ? 0 : bit + 1, bit};
    set_scans(target, made);
}

static void early_end(struct jpeg_compress_struct *target)
{
    scans[0] = (jpeg_scan_info){3, {0, 1, 2}, 0, 0, 0, 1};
    scans[1] = (jpeg_scan_info){1, {0}, 1, 5, 0, 2};
    set_scans(target, 2);
}

static void set_sampling(struct jpeg_compress_struct *target, const char *factors)
{
    for (int i = 0; i < 3; i++, factors += 3) {
        target->comp_info[i].h_samp_factor = factors[0] - '0';
        target->comp_info[i].v_samp_factor = factors[1] - '0';
    }
}

static void apply(struct jpeg_compress_struct *target, const char *option)
{
    if (!strcmp(option, "arithmetic"))
        target->arith_code = TRUE;
    else if (!strcmp(option, "progressive"))
        jpeg_simple_progression(target);
    else if (!strcmp(option, "separate"))
        separate_scans(target);
    else if (!strcmp(option, "rgb"))
        jpeg_set_colorspace(target, JCS_RGB);
    else if (!strcmp(option, "wide-tables"))
        jpeg_set_quality(target, 3, FALSE);
    else if (!strcmp(option, "early-end"))
        early_end(target);
    else if (!strncmp(option, "scans=", 6))
        many_scans(target, atoi(option + 6));
    else if (!strncmp(option, "sampling=", 9))
        set_sampling(target, option + 9);
    else
        exit(2);
}

int main(int argc, char **argv)
{
    struct jpeg_compress_struct target;
    struct jpeg_error_mgr errors;
    if (argc < 4)
        return 2;
    FILE *file = fopen(argv[3], "wb");
    target.err = jpeg_std_error(&errors);
    jpeg_create_compress(&target);
    jpeg_stdio_dest(&target, file);
    target.image_width = (JDIMENSION)atoi(argv[1]);
    target.image_height = (JDIMENSION)atoi(argv[2]);
    target.input_components = 3;
    target.in_color_space = JCS_RGB;
    jpeg_set_defaults(&target);
    jpeg_set_quality(&target, 90, TRUE);
    for (int i = 4; i < argc; i++)
        apply(&target, argv[i]);
    jpeg_start_compress(&target, TRUE);
    JSAMPROW row = malloc(3 * target.image_width);
    while (target.next_scanline < target.image_height && fread(row, 3, target.image_width, stdin) == target.image_width)
        jpeg_write_scanlines(&target, &row, 1);
    jpeg_finish_compress(&target);
    jpeg_destroy_compress(&target);
    free(row);
    return fclose(file);
}
