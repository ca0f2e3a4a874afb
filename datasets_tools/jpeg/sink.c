#include "sink.h"

#include <stdlib.h>

static void resize(struct sink *sink, struct jpeg_compress_struct *target, size_t capacity)
{
    uint8_t *data = capacity > sink->capacity ? realloc(sink->data, capacity) : NULL; /* not where a size overflowed */
    if (!data)
        guard_fail((struct guard *)target->err, CODEC_NO_MEMORY, "no memory");
    sink->manager.next_output_byte = data + sink->capacity;
    sink->manager.free_in_buffer = capacity - sink->capacity;
    sink->data = data;
    sink->capacity = capacity;
}

static void init_destination(j_compress_ptr target)
{
    (void)target;
}

/* libjpeg's contract: the whole buffer is full, whatever free_in_buffer says. */
static boolean empty_output_buffer(j_compress_ptr target)
{
    struct sink *sink = (struct sink *)target->dest;
    resize(sink, target, 2 * sink->capacity);
    return TRUE;
}

static void term_destination(j_compress_ptr target)
{
    struct sink *sink = (struct sink *)target->dest;
    sink->size = sink->capacity - sink->manager.free_in_buffer;
}

void sink_attach(struct sink *sink, struct jpeg_compress_struct *target, size_t capacity)
{
    sink->manager.init_destination = init_destination;
    sink->manager.empty_output_buffer = empty_output_buffer;
    sink->manager.term_destination = term_destination;
    target->dest = &sink->manager;
    resize(sink, target, capacity);
}

void sink_close(struct sink *sink, codec_jpeg *out, const codec_error *error)
{
    if (error->status != CODEC_OK) {
        free(sink->data);
        sink->data = NULL;
        sink->size = 0;
    }
    *out = (codec_jpeg){sink->data, sink->size};
}
