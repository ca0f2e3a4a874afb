/* Memory that a thread uses again and again. */
#ifndef CODEC_ARENA_H
#define CODEC_ARENA_H

#include "codec.h"

/* Vector loads of the last bytes may reach this far beyond them. */
#define ARENA_SLACK 64

/* Return at least `size` bytes, aligned for vectors and with `ARENA_SLACK` readable ones behind them; what was in them
 * is lost. NULL: no memory. */
uint8_t *arena_take(struct codec_arena *arena, size_t size);

void arena_free(struct codec_arena *arena);

#endif
