/* From bits to coefficients: the inner loop of the baseline decoder. */
#include <string.h>

#include "baseline_parts.h"

#define INLINE static inline __attribute__((always_inline))

/* Where the k-th coefficient lies in a pair: T.81, figure A.6, with rows of 16. Beyond 63, where a run that is too long
 * or the end of a block leads, it is behind the pair. */
enum { BEHIND = 2 * COEFFICIENTS };
static const uint8_t places[64 + 2 * (AC_END + 1)] = {
    0,  1,   16,  32,  17,  2,   3,   18, 33, 48, 64, 49, 34, 19,  4,   5,   20,  35, 50,  65,  80,  96,
    81, 66,  51,  36,  21,  6,   7,   22, 37, 52, 67, 82, 97, 112, 113, 98,  83,  68, 53,  38,  23,  39,
    54, 69,  84,  99,  114, 115, 100, 85, 70, 55, 71, 86, 101, 116, 117, 102, 87, 103, 118, 119,
    [64 ... sizeof places - 1] = BEHIND};

/* Top the buffer up to at least 56 bits. More than `count` tells of may be in it: they are then or-ed in once more. */
INLINE void refill(struct bits *bits)
{
    uint64_t word;
    memcpy(&word, bits->next, sizeof word);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    bits->buffer |= word >> (bits->count & 63);
    bits->next += (~bits->count & 63) >> 3;
    bits->count |= 56;
}

/* Only the low 6 bits of `count` count: an entry of a table can be given whole. */
INLINE void consume(struct bits *bits, unsigned count)
{
    bits->buffer <<= count & 63;
    bits->count -= count;
}

/* The value in the `size` bits that end `end` bits below the top: T.81, F.2.2.1. Without a branch: which sign comes is
 * anybody's guess. */
INLINE int value_of(uint64_t buffer, unsigned size, unsigned end)
{
    uint64_t ones = ((uint64_t)1 << size) - 1;
    uint64_t is_negative = (uint64_t)((int64_t)(~buffer << ((end - size) & 63)) >> 63);
    return (int)(buffer >> (-end & 63) & ones) - (int)(is_negative & ones);
}

/* The difference of a DC coefficient; `bad` where there is none. */
INLINE int read_dc(struct bits *bits, const struct dc_table *table, unsigned *bad)
{
    refill(bits);
    unsigned entry = table->fast[bits->buffer >> (64 - DC_BITS)];
    if (__builtin_expect(!entry, 0)) {
        unsigned length, symbol = codec_find_symbol(&table->codes, bits->buffer, &length);
        *bad |= !length;
        entry = length << 4 | symbol;
    }
    unsigned size = entry & 15, end = (entry >> 4) + size;
    int difference = value_of(bits->buffer, size, end);
    consume(bits, end);
    return difference;
}

enum { PROBES = 56 / AC_BITS }; /* that a full buffer is good for */

enum progress { GO_ON, REFILL, END };

/* One symbol of any kind, into `block` if there is one; the new position in the block, or one that is an error. */
static __attribute__((noinline)) unsigned read_symbol(struct bits *bits, const struct canonical *codes, unsigned k,
                                                      int16_t *block)
{
    unsigned length;
    refill(bits);
    unsigned symbol = codec_find_symbol(codes, bits->buffer, &length), size = symbol & 15;
    if (!length)
        return COEFFICIENTS + 1;
    if (size) {
        k += (symbol >> 4) + 1;
        if (block)
            block[places[k - 1]] = (int16_t)value_of(bits->buffer, size, length + size);
    } else
        k += symbol == 0xF0 ? 16 : AC_END;
    consume(bits, length + size);
    return k;
}

INLINE enum progress read_any(struct bits *bits, const struct ac_table *table, int16_t *block, unsigned *k)
{
    struct bits copy = *bits; /* so that the loop's own can be in registers */
    *k = read_symbol(&copy, &table->codes, *k, block);
    *bits = copy;
    return *k < COEFFICIENTS ? REFILL : END;
}

/* A coefficient whose bits are too many for the table. */
INLINE enum progress read_large(struct bits *bits, uint32_t entry, bool keep, int16_t *block, unsigned *k)
{
    unsigned size = entry >> AC_SIZE & 15, end = size + (entry >> AC_CODE & 15);
    refill(bits);
    *k += (entry >> AC_ZEROS & 15) + 1;
    if (keep)
        block[places[*k - 1]] = (int16_t)value_of(bits->buffer, size, end);
    consume(bits, end);
    return *k < COEFFICIENTS ? REFILL : END;
}

/* Take what one probe of the table gives, with at least AC_BITS in the buffer. */
INLINE enum progress probe(struct bits *bits, const struct ac_table *table, bool keep, int16_t *block, unsigned *k)
{
    uint32_t entry = table->fast[bits->buffer >> (64 - AC_BITS)];
    if (__builtin_expect(!(entry & 63), 0)) {
        if (entry)
            return read_large(bits, entry, keep, block, k);
        return read_any(bits, table, block, k);
    }
    unsigned first = *k + (entry >> AC_ZEROS & 15), second = first + (entry >> AC_STEP & 127);
    if (keep) {
        /* In this order: where there is no second coefficient, its zero lies in the first one's place. */
        block[places[second]] = (int16_t)((int32_t)(entry << (32 - AC_FIRST)) >> (32 - AC_FIRST + AC_SECOND));
        block[places[first]] = (int16_t)((int32_t)entry >> AC_FIRST);
    }
    if (second >= COEFFICIENTS - 1) {
        /* What follows a last coefficient is the next block's: one by one. */
        if (first >= COEFFICIENTS - 1)
            return read_any(bits, table, block, k);
        consume(bits, entry);
        *k = second + 1;
        return END;
    }
    consume(bits, entry);
    *k = second + 1;
    return GO_ON;
}

/* Read the AC coefficients, into `block` if `keep`, or pass over them. */
INLINE void read_ac(struct bits *bits, const struct ac_table *table, bool keep, int16_t *block, unsigned *bad)
{
    unsigned k = 1;
    enum progress progress;
    do {
        refill(bits);
        progress = GO_ON;
        for (int i = 0; i < PROBES && progress == GO_ON; i++)
            progress = probe(bits, table, keep, block, &k);
    } while (progress != END);
    *bad |= k - (COEFFICIENTS + 1) < AC_END - COEFFICIENTS;
}

/* Pass over the AC coefficients, with as many codes at once as a probe shows. */
INLINE void pass_ac(struct bits *bits, const struct ac_table *table, unsigned *bad)
{
    unsigned k = 1;
    for (unsigned i = 0;; i ^= 1) {
        if (!i) /* for two probes, of PASS_BITS and a value of 15 bits at most */
            refill(bits);
        unsigned entry = table->passes[bits->buffer >> (64 - PASS_BITS)], end = k + (entry >> PASS_STEP);
        if (__builtin_expect(end >= COEFFICIENTS || !entry, 0)) {
            if (end >= PASS_END && end < PASS_END + COEFFICIENTS) {
                consume(bits, entry);
                return;
            }
            /* The last coefficient, behind which the next block begins, a long code, or an error: one by one. */
            if (read_any(bits, table, NULL, &k) == END)
                break;
            i = 1;
            continue;
        }
        consume(bits, entry);
        k = end;
    }
    *bad |= k - (COEFFICIENTS + 1) < AC_END - COEFFICIENTS;
}

/* Have the block's samples computed, with those of the block before or behind it. */
INLINE void take_block(struct pair *pair, const struct component *component, uint8_t *samples,
                       const struct kernels *kernels)
{
    pair->quantization[pair->count] = component->quantization;
    pair->samples[pair->count] = samples;
    pair->stride[pair->count] = component->stride;
    if (++pair->count == 2) {
        kernels->transform(pair);
    }
}

static bool is_in(struct range range, unsigned place)
{
    return place >= range.first && place < range.end;
}

INLINE void read_block(struct decoder *decoder, struct component *component, struct bits *bits, unsigned row,
                       unsigned column, unsigned top, unsigned *bad)
{
    component->predictor += read_dc(bits, component->dc, bad);
    *bad |= (unsigned)(component->predictor + component->largest) > 2u * (unsigned)component->largest;
    if (!is_in(component->rows, row) || !is_in(component->columns, column)) {
        if (component->ac->has_passes)
            pass_ac(bits, component->ac, bad);
        else
            read_ac(bits, component->ac, false, NULL, bad);
        return;
    }
    struct pair *pair = &decoder->pair;
    int16_t *block = pair->coefficients + BLOCK * pair->count;
    block[0] = (int16_t)component->predictor;
    read_ac(bits, component->ac, true, block, bad);
    uint8_t *samples = component->samples + (row - top) * BLOCK * component->stride +
                       (size_t)(column - component->columns.first) * BLOCK;
    take_block(pair, component, samples, decoder->kernels);
}

INLINE bool read_mcus(struct decoder *decoder, unsigned row, unsigned column, unsigned count)
{
    struct bits bits = decoder->segment.bits;
    const uint8_t *end = decoder->segment.end;
    unsigned bad = 0;
    for (; count; count--, column++) {
        for (unsigned i = 0; i < decoder->num_components; i++) {
            struct component *component = &decoder->components[i];
            unsigned horizontal = component->horizontal, vertical = component->vertical, top = row * vertical;
            for (unsigned y = 0; y < vertical; y++)
                for (unsigned x = 0; x < horizontal; x++)
                    read_block(decoder, component, &bits, top + y, column * horizontal + x, top, &bad);
        }
        if (bad || is_overrun(&bits, end))
            return false;
    }
    decoder->segment.bits = bits;
    return true;
}

bool codec_read_mcus(struct decoder *decoder, unsigned row, unsigned column, unsigned count)
{
    return read_mcus(decoder, row, column, count);
}

#if CODEC_AVX2
AVX2_FUNCTION bool codec_read_mcus_avx2(struct decoder *decoder, unsigned row, unsigned column, unsigned count)
{
    return read_mcus(decoder, row, column, count);
}
#endif
