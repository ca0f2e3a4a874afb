/* Print what a JPEG's pixels are made of: per component its size in blocks, quantization table and coefficients.
 *
 * usage: jpeg_dump FILE; two files that print the same decode to the same pixels. */
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

int main(int argc, char **argv)
{
    struct jpeg_decompress_struct source;
    struct jpeg_error_mgr errors;
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (!file)
        return 2;
    source.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&source);
    jpeg_stdio_src(&source, file);
    jpeg_read_header(&source, TRUE);
    jvirt_barray_ptr *arrays = jpeg_read_coefficients(&source);
    printf("%u x %u, colour space %d, %ld warnings\n", source.image_width, source.image_height, source.jpeg_color_space,
           errors.num_warnings);
    for (int c = 0; c < source.num_components; c++) {
        jpeg_component_info *component = &source.comp_info[c];
        printf("component %d: %d x %d, %u x %u blocks", component->component_id, component->h_samp_factor,
               component->v_samp_factor, component->width_in_blocks, component->height_in_blocks);
        for (int i = 0; i < DCTSIZE2; i++)
            printf(" %u", component->quant_table->quantval[i]);
        printf("\n");
        for (JDIMENSION y = 0; y < component->height_in_blocks; y++) {
            JBLOCKARRAY row = source.mem->access_virt_barray((j_common_ptr)&source, arrays[c], y, 1, FALSE);
            fwrite(row[0], sizeof(JBLOCK), component->width_in_blocks, stdout);
        }
        printf("\n");
    }
    jpeg_destroy_decompress(&source);
    return fclose(file);
}
