/* Our own decoder of a window of a baseline JPEG: the common kinds only, and sound data only, but faster than libjpeg.
 *
 * It has no opinion on what is damaged or unusual: it says that it does not apply, and libjpeg judges. So a picture
 * means the same, and fails with the same words, whichever decoder takes it. */
#ifndef CODEC_BASELINE_H
#define CODEC_BASELINE_H

#include "codec.h"

/* Memory that one thread reuses from picture to picture: buffers that grow, and the Huffman tables seen last. */
typedef struct codec_scratch codec_scratch;

/* NULL: no memory. */
codec_scratch *codec_scratch_new(void);

void codec_scratch_free(codec_scratch *scratch);

/* In pixels of the picture. */
typedef struct {
    unsigned top, left, height, width;
} codec_window;

/* Decode the `window` of a picture of `height` x `width` to RGB, as planes.h has it (grey as R = G = B): the pixels are
 * those of libjpeg-turbo's full decode with JDCT_ISLOW and fancy upsampling.
 *
 * `applies` is false where the file is not Huffman-coded baseline in one scan, grey or YCbCr of 4:4:4, 4:2:2, 4:2:0 or
 * 4:4:0, with ordinary markers, of that size, and sound in what the window needs; then `planes` may hold anything and
 * libjpeg is to be asked. The only error is CODEC_NO_MEMORY. */
codec_status codec_baseline_window(codec_bytes jpeg, codec_window window, unsigned height, unsigned width,
                                   uint8_t *planes, codec_scratch *scratch, bool *applies, codec_error *error);

#endif
