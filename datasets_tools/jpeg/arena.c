#include "arena.h"

#include <stdlib.h>

#define ALIGNMENT 64

uint8_t *arena_take(struct codec_arena *arena, size_t size)
{
    if (arena->size < size || !arena->data) {
        free(arena->data);
        arena->size = 0;
        arena->data = aligned_alloc(ALIGNMENT, (size + ARENA_SLACK + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
        if (!arena->data)
            return NULL;
        arena->size = size;
    }
    return arena->data;
}

void arena_free(struct codec_arena *arena)
{
    free(arena->data);
    *arena = (struct codec_arena){NULL, 0};
}
