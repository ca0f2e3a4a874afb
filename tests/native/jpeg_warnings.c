/* Decode JPEGs as djpeg does, and print of each how often libjpeg warned once the first scan had begun; -1: it gave up.
 *
 * usage: jpeg_warnings FILE...
 *
 * From memory, as loaders do. libjpeg-turbo is silent of wrong Huffman codes in its fast path, which it leaves where less
 * than an MCU's longest code is in its buffer: files read in pieces of 4 KiB give a few more warnings. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#define MAX_SIZE (1 << 24)

static unsigned char data[MAX_SIZE];
static jmp_buf escape;
static int num_warnings;

static void give_up(j_common_ptr object)
{
    (void)object;
    longjmp(escape, 1);
}

static void count(j_common_ptr object, int level)
{
    if (level < 0 && ((struct jpeg_decompress_struct *)object)->input_scan_number > 0)
        num_warnings++;
}

static void decode(struct jpeg_decompress_struct *source, size_t size)
{
    jpeg_create_decompress(source);
    jpeg_mem_src(source, data, size);
    jpeg_read_header(source, TRUE);
    jpeg_start_decompress(source);
    JSAMPARRAY row = source->mem->alloc_sarray((j_common_ptr)source, JPOOL_IMAGE,
                                               source->output_width * (JDIMENSION)source->output_components, 1);
    while (source->output_scanline < source->output_height)
        jpeg_read_scanlines(source, row, 1);
    jpeg_finish_decompress(source);
}

int main(int argc, char **argv)
{
    static struct jpeg_decompress_struct source;
    static struct jpeg_error_mgr errors;
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (!file)
            return 2;
        size_t size = fread(data, 1, MAX_SIZE, file);
        fclose(file);
        num_warnings = 0;
        source.err = jpeg_std_error(&errors);
        errors.error_exit = give_up;
        errors.emit_message = count;
        if (setjmp(escape))
            num_warnings = -1;
        else
            decode(&source, size);
        printf("%d\n", num_warnings);
        jpeg_destroy_decompress(&source);
    }
    return 0;
}
