/* A libjpeg destination in memory that never leaks: unlike jpeg_mem_dest, its owner sees the buffer after an error. */
#ifndef CODEC_SINK_H
#define CODEC_SINK_H

#include "error.h"

struct sink {
    struct jpeg_destination_mgr manager; /* first: libjpeg hands back a pointer to it */
    uint8_t *data;
    size_t capacity, size;
};

/* Let `target` write into `sink`, of `capacity` bytes at first. Inside the guard. */
void sink_attach(struct sink *sink, struct jpeg_compress_struct *target, size_t capacity);

/* Hand the bytes over, or free them where there was an error. */
void sink_close(struct sink *sink, codec_jpeg *out, const codec_error *error);

#endif
