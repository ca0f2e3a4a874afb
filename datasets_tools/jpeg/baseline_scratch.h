/* What a thread keeps from picture to picture. */
#ifndef CODEC_BASELINE_SCRATCH_H
#define CODEC_BASELINE_SCRATCH_H

#include "baseline_parts.h"

/* At least as many as one picture may use, so that none is replaced while it is in use. */
enum { NUM_KEPT = 8, MAX_DEFINITION = 16 + 256 };

struct kept {
    uint8_t bytes[MAX_DEFINITION];
    size_t size; /* 0: free */
    uint64_t picture; /* that used it last */
};

struct room {
    uint8_t *bytes;
    size_t size;
};

struct codec_scratch {
    struct decoder decoder;
    struct room coded, samples, lines;
    struct kept dc[NUM_KEPT], ac[NUM_KEPT];
    struct dc_table dc_tables[NUM_KEPT];
    struct ac_table ac_tables[NUM_KEPT];
    uint64_t picture; /* counts them */
};

/* At least `size` bytes, whose contents are lost when they grow; false: no memory. */
bool scratch_reserve(struct room *room, size_t size);

/* The tables, built where they were not seen lately; NULL: no code is made that way. */
const struct dc_table *scratch_dc(struct codec_scratch *scratch, struct definition definition);
const struct ac_table *scratch_ac(struct codec_scratch *scratch, struct definition definition);

#endif
