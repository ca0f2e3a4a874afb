/* A libjpeg decompressor over bytes in memory, with this codec's limits. */
#ifndef CODEC_READER_H
#define CODEC_READER_H

#include "error.h"

struct reader {
    struct jpeg_decompress_struct source;
    struct guard guard;
    struct jpeg_progress_mgr progress;
};

/* Make a reader that `reader_close` may be called on at once. */
void reader_init(struct reader *reader, bool tolerant, codec_error *error);

/* Open `jpeg`, read its header, and refuse what libjpeg cannot decode to 8-bit pixels. Inside the guard. */
void reader_open(struct reader *reader, codec_bytes jpeg);

/* Refuse other than 1 or 3 components. Inside the guard. */
void reader_require_grey_or_colour(struct reader *reader);

/* Read to the end-of-image marker after the last row or coefficient; refuse a picture that has none, or one of whose
 * components came in no scan. Inside the guard. */
void reader_finish(struct reader *reader);

void reader_close(struct reader *reader);

#endif
