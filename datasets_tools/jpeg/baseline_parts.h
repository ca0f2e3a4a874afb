/* What the files of the baseline decoder share: markers -> tables -> bytes of a segment -> coefficients -> samples of a
 * row of MCUs -> pixels. */
#ifndef CODEC_BASELINE_PARTS_H
#define CODEC_BASELINE_PARTS_H

#include "baseline.h"
#include "planes.h"
#include "vectors.h"

enum {
    BLOCK = 8,
    COEFFICIENTS = 64,
    MAX_COMPONENTS = 3,
    MAX_BLOCKS = 6, /* of an MCU: 4:2:0 */
    NUM_TABLES = 4,
    DC_BITS = 10,
    AC_BITS = 11,
    PASS_BITS = 12,
    /* What a reader may take beyond the end before anybody looks: an MCU of the longest codes (16 + 15 bits), and the
     * eight bytes that it reads ahead. */
    READ_AHEAD = MAX_BLOCKS * COEFFICIENTS * 4 + 8,
    VECTOR = 32 /* bytes that a kernel may read or write beyond a row */
};

/* --- Huffman tables ----------------------------------------------------------------------------------------------- */

/* A table as a DHT segment has it: 16 counts, then the values. */
struct definition {
    const uint8_t *bytes; /* NULL: none */
    size_t size;
};

/* Any code, also the long ones. Source: T.81, F.2.2.3. */
struct canonical {
    uint32_t limit[18]; /* the first 16-bit word that is beyond the codes of this length; [17]: beyond all words */
    int32_t offset[17]; /* of the values, from the codes of this length */
    uint8_t values[256];
};

struct dc_table {
    struct canonical codes;
    uint8_t fast[1 << DC_BITS]; /* length of the code << 4 | length of the value; 0: a longer code */
};

/* What the next AC_BITS bits hold, from bit 0 on:
 *   6 bits: the length of it all, where a shift by the whole entry finds it
 *   4:      the zeros before the first coefficient
 *   7:      how far a second symbol leads on; AC_END: to the end of the block; 0: there is none
 *   7, 8:   the second and the first coefficient
 * An end of the block alone is a first coefficient of 0 before it. Where the bits of a value do not fit, the length is
 * 0 and there follow, with 4 bits each, the zeros, the length of the value, and that of the code; where not even the
 * code fits, the entry is 0. */
struct ac_table {
    struct canonical codes;
    uint32_t fast[1 << AC_BITS];
    /* For passing over blocks: all symbols whose codes lie in the bits, also where their values lie beyond. From bit 0
     * on 6 bits of length, and how far they lead on together, PASS_END more if they end the block; 0: a longer code. */
    bool has_passes;
    uint16_t passes[1 << PASS_BITS];
};

enum {
    AC_ZEROS = 6,
    AC_STEP = 10,
    AC_SECOND = 17,
    AC_FIRST = 24,
    AC_SIZE = 10, /* of a value that does not fit */
    AC_CODE = 14,
    PASS_STEP = 6,
    PASS_END = 512,
    AC_END = 127 /* from any position to 128 or beyond: what a run too long can not reach */
};

/* False: no code is made that way. */
bool codec_build_dc(struct dc_table *table, struct definition definition);
bool codec_build_ac(struct ac_table *table, struct definition definition);
void codec_build_passes(struct ac_table *table, struct definition definition);

/* The symbol of the code at the top of `word`; `length` is 0 where no code begins so. */
unsigned codec_find_symbol(const struct canonical *codes, uint64_t word, unsigned *length);

/* --- Markers ------------------------------------------------------------------------------------------------------ */

struct frame_component {
    unsigned id, horizontal, vertical; /* sampling factors */
    unsigned quantization, dc, ac;     /* numbers of tables */
};

struct frame {
    unsigned height, width;
    unsigned num_components;
    struct frame_component components[MAX_COMPONENTS];
    const uint8_t *quantization[NUM_TABLES]; /* 64 bytes in zigzag order, or NULL */
    struct definition dc[NUM_TABLES], ac[NUM_TABLES];
    unsigned restart_interval;
    bool jfif, adobe;
    unsigned adobe_transform;
    const uint8_t *scan; /* the first byte of coded data */
};

/* Read the markers to the scan. False: nothing for this decoder. */
bool codec_read_frame(codec_bytes jpeg, struct frame *frame);

struct kernels;

/* --- Coded data --------------------------------------------------------------------------------------------------- */

/* The bits of a segment, from the top of `buffer`; the low 6 bits of `count` tell how many of them count. */
struct bits {
    uint64_t buffer;
    unsigned count;
    const uint8_t *next;
};

/* What lies between two restart markers, or the whole scan. */
struct segment {
    struct bits bits;
    const uint8_t *end;              /* of the bytes without stuffing */
    const uint8_t *raw, *raw_end;    /* behind the segment in the file; the end of the file */
    uint8_t *bytes;                  /* room for the whole file, and READ_AHEAD and VECTOR more */
    unsigned restart;                /* the number of the next restart marker */
};

/* Make the data at `segment->raw` readable. */
void codec_open_segment(const struct kernels *kernels, struct segment *segment);

/* Pass `count` restart markers, of which the first ends the present segment, and open what follows. */
bool codec_next_segment(const struct kernels *kernels, struct segment *segment, size_t count);

/* Whether more bits were taken than there are. */
static inline bool is_overrun(const struct bits *bits, const uint8_t *end)
{
    return (bits->next - end) * 8 > (ptrdiff_t)(bits->count & 63);
}

/* Whether a segment whose MCUs are all read has whole bytes left over. */
static inline bool has_left_over(const struct segment *segment)
{
    return (segment->end - segment->bits.next) * 8 + (ptrdiff_t)(segment->bits.count & 63) >= 8;
}

/* --- Decoding ----------------------------------------------------------------------------------------------------- */

/* A half-open range. */
struct range {
    unsigned first, end;
};

struct component {
    const struct dc_table *dc;
    const struct ac_table *ac;
    _Alignas(VECTOR) int16_t quantization[COEFFICIENTS]; /* in natural order */
    unsigned horizontal, vertical;
    unsigned height, width;      /* of its samples */
    struct range columns, rows;  /* of blocks that are needed */
    int predictor, largest;      /* DC, and the largest that is plausible */
    uint8_t *samples;            /* of the first needed block of the row of MCUs at hand; the row above is kept */
    size_t stride;
};

/* Two blocks go through the inverse DCT at once: row by row, eight coefficients of the one, eight of the other. */
struct pair {
    _Alignas(VECTOR) int16_t coefficients[2 * COEFFICIENTS + VECTOR / 2]; /* what leads beyond a block lands behind */
    const int16_t *quantization[2];
    uint8_t *samples[2];
    size_t stride[2];
    unsigned count;
};

struct decoder {
    unsigned num_components;
    struct component components[MAX_COMPONENTS];
    unsigned mcus_per_row, mcu_rows;
    unsigned restart_interval;
    size_t position, restart_at; /* the next MCU in the file; the first behind the segment, or beyond all */
    struct segment segment;
    struct pair pair;
    const struct kernels *kernels;
};

/* The loops, for the processor at hand. */
struct kernels {
    /* Copy coded bytes without stuffing, to a marker or the end; returns the end of the copy, moves `from`. Writes up
     * to VECTOR bytes beyond it. */
    uint8_t *(*unstuff)(const uint8_t **from, const uint8_t *end, uint8_t *to);
    /* Read `count` MCUs of row `row` from column `column` on, none behind `restart_at`. False: damaged. */
    bool (*read_mcus)(struct decoder *decoder, unsigned row, unsigned column, unsigned count);
    /* Dequantize and transform the blocks of a pair, and leave it empty. */
    void (*transform)(struct pair *pair);
    /* Triangle filters: `count` samples to twice as many; between two rows; and both. Samples before the first and
     * behind the last are read. */
    void (*widen)(const uint8_t *in, uint8_t *out, size_t count);
    void (*between)(const uint8_t *near, const uint8_t *far, unsigned bias, uint8_t *out, size_t count);
    void (*widen_between)(const uint8_t *near, const uint8_t *far, uint8_t *out, size_t count);
    /* Convert to RGB; writes to the end of the planes, which are a multiple of VECTOR. */
    void (*to_planes)(const uint8_t *y, const uint8_t *cb, const uint8_t *cr, uint8_t *row, unsigned width);
};

const struct kernels *codec_kernels(void);

uint8_t *codec_unstuff(const uint8_t **from, const uint8_t *end, uint8_t *to);
bool codec_read_mcus(struct decoder *decoder, unsigned row, unsigned column, unsigned count);
void codec_transform(struct pair *pair);
void codec_widen(const uint8_t *in, uint8_t *out, size_t count);
void codec_between(const uint8_t *near, const uint8_t *far, unsigned bias, uint8_t *out, size_t count);
void codec_widen_between(const uint8_t *near, const uint8_t *far, uint8_t *out, size_t count);
void codec_to_planes(const uint8_t *y, const uint8_t *cb, const uint8_t *cr, uint8_t *row, unsigned width);

#if CODEC_AVX2
uint8_t *codec_unstuff_avx2(const uint8_t **from, const uint8_t *end, uint8_t *to);
bool codec_read_mcus_avx2(struct decoder *decoder, unsigned row, unsigned column, unsigned count);
void codec_transform_avx2(struct pair *pair);
void codec_widen_avx2(const uint8_t *in, uint8_t *out, size_t count);
void codec_between_avx2(const uint8_t *near, const uint8_t *far, unsigned bias, uint8_t *out, size_t count);
void codec_widen_between_avx2(const uint8_t *near, const uint8_t *far, uint8_t *out, size_t count);
void codec_to_planes_avx2(const uint8_t *y, const uint8_t *cb, const uint8_t *cr, uint8_t *row, unsigned width);
#endif

#endif
