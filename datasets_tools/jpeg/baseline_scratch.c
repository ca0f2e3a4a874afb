#include "baseline_scratch.h"

#include <stdlib.h>
#include <string.h>

codec_scratch *codec_scratch_new(void)
{
    size_t size = (sizeof(codec_scratch) + VECTOR - 1) / VECTOR * VECTOR;
    codec_scratch *scratch = aligned_alloc(VECTOR, size);
    if (scratch)
        memset(scratch, 0, size);
    return scratch;
}

void codec_scratch_free(codec_scratch *scratch)
{
    if (!scratch)
        return;
    free(scratch->coded.bytes);
    free(scratch->samples.bytes);
    free(scratch->lines.bytes);
    free(scratch);
}

bool scratch_reserve(struct room *room, size_t size)
{
    if (size <= room->size)
        return true;
    size += size / 2; /* pictures of a data set are alike: soon nothing grows any more */
    free(room->bytes);
    room->bytes = calloc(size, 1);
    room->size = room->bytes ? size : 0;
    return room->bytes;
}

/* The place of a definition among those kept, or of the one to replace. */
static unsigned find(const struct kept *kept, struct definition definition)
{
    unsigned oldest = 0;
    for (unsigned i = 0; i < NUM_KEPT; i++) {
        if (kept[i].size == definition.size && !memcmp(kept[i].bytes, definition.bytes, definition.size))
            return i;
        if (kept[i].picture < kept[oldest].picture)
            oldest = i;
    }
    return oldest;
}

static void keep(struct kept *kept, struct definition definition)
{
    memcpy(kept->bytes, definition.bytes, definition.size);
    kept->size = definition.size;
}

const struct dc_table *scratch_dc(struct codec_scratch *scratch, struct definition definition)
{
    unsigned place = find(scratch->dc, definition);
    struct kept *kept = &scratch->dc[place];
    if (kept->size != definition.size || memcmp(kept->bytes, definition.bytes, definition.size)) {
        kept->size = 0;
        if (!codec_build_dc(&scratch->dc_tables[place], definition))
            return NULL;
        keep(kept, definition);
    }
    kept->picture = scratch->picture;
    return &scratch->dc_tables[place];
}

const struct ac_table *scratch_ac(struct codec_scratch *scratch, struct definition definition)
{
    unsigned place = find(scratch->ac, definition);
    struct kept *kept = &scratch->ac[place];
    struct ac_table *table = &scratch->ac_tables[place];
    if (kept->size != definition.size || memcmp(kept->bytes, definition.bytes, definition.size)) {
        kept->size = 0;
        if (!codec_build_ac(table, definition))
            return NULL;
        keep(kept, definition);
    } else if (!table->has_passes && kept->picture != scratch->picture) {
        /* What passes blocks over is worth its making once another picture has the table: then it is the standard's,
         * or that of a common encoder. */
        codec_build_passes(table, definition);
    }
    kept->picture = scratch->picture;
    return table;
}
