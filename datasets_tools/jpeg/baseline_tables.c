/* Huffman tables for the lookups of the baseline decoder. */
#include <string.h>

#include "baseline_parts.h"

enum { MAX_LENGTH = 16, MAX_DC_SIZE = 15, ZRL = 0xF0 };

/* Codes of one length are consecutive, and those of the next begin behind them (T.81, C.2). */
static bool build_codes(struct canonical *codes, struct definition definition)
{
    uint32_t code = 0;
    int32_t first = 0;
    for (int length = 1; length <= MAX_LENGTH; length++, code <<= 1) {
        uint32_t count = definition.bytes[length - 1];
        codes->offset[length] = first - (int32_t)code;
        code += count;
        first += (int32_t)count;
        if (count && code >= 1u << length) /* the code of ones alone is none */
            return false;
        codes->limit[length] = code << (MAX_LENGTH - length);
    }
    codes->limit[MAX_LENGTH + 1] = UINT32_MAX;
    memset(codes->values, 0, sizeof codes->values);
    memcpy(codes->values, definition.bytes + MAX_LENGTH, definition.size - MAX_LENGTH);
    return true;
}

unsigned codec_find_symbol(const struct canonical *codes, uint64_t word, unsigned *length)
{
    uint32_t top = (uint32_t)(word >> (64 - MAX_LENGTH));
    unsigned found = 1;
    while (top >= codes->limit[found])
        found++;
    *length = found <= MAX_LENGTH ? found : 0;
    return found <= MAX_LENGTH ? codes->values[(codes->offset[found] + (int32_t)(top >> (MAX_LENGTH - found))) & 255]
                               : 0;
}

bool codec_build_dc(struct dc_table *table, struct definition definition)
{
    if (!build_codes(&table->codes, definition))
        return false;
    const uint8_t *value = definition.bytes + MAX_LENGTH;
    for (size_t i = 0; i < definition.size - MAX_LENGTH; i++)
        if (value[i] > MAX_DC_SIZE)
            return false;
    uint8_t *entry = table->fast;
    for (unsigned length = 1; length <= DC_BITS; length++)
        for (unsigned left = definition.bytes[length - 1]; left; left--) {
            size_t span = (size_t)1 << (DC_BITS - length);
            memset(entry, (int)(length << 4 | *value++), span);
            entry += span;
        }
    memset(entry, 0, (size_t)(table->fast + (1 << DC_BITS) - entry));
    return true;
}

/* The value that `size` bits stand for: T.81, F.2.2.1. */
static int extend(unsigned bits, unsigned size)
{
    return size && bits < 1u << (size - 1) ? (int)bits + 1 - (1 << size) : (int)bits;
}

/* The entry of the bits `index` if they hold no second symbol. */
static uint32_t first_entry(unsigned index, unsigned length, unsigned symbol)
{
    unsigned size = symbol & 15, zeros = symbol >> 4, both = length + size;
    if (!size && symbol != ZRL)
        return length | (uint32_t)AC_END << AC_STEP;
    if (both > AC_BITS || size > 7)
        return zeros << AC_ZEROS | size << AC_SIZE | length << AC_CODE;
    int value = extend(index >> (AC_BITS - both) & ((1u << size) - 1), size);
    return both | zeros << AC_ZEROS | (uint32_t)value << AC_FIRST;
}

/* Add the symbol that follows, `next` being the entry of its bits. */
static uint32_t second_entry(uint32_t entry, uint32_t next)
{
    unsigned used = entry & 63, more = next & 63;
    int value = (int32_t)next >> AC_FIRST;
    if (!more || used + more > AC_BITS || value < -64 || value > 63)
        return entry;
    uint32_t step = next >> AC_STEP & AC_END ? AC_END : (next >> AC_ZEROS & 15) + 1;
    return (entry + more) | step << AC_STEP | ((uint32_t)value & 127) << AC_SECOND;
}

bool codec_build_ac(struct ac_table *table, struct definition definition)
{
    uint32_t firsts[1 << AC_BITS];
    if (!build_codes(&table->codes, definition))
        return false;
    table->has_passes = false;
    const uint8_t *symbol = definition.bytes + MAX_LENGTH;
    unsigned end = 0;
    for (unsigned length = 1; length <= AC_BITS; length++)
        for (unsigned left = definition.bytes[length - 1]; left; left--, symbol++)
            for (unsigned span = 1u << (AC_BITS - length); span; span--, end++)
                firsts[end] = first_entry(end, length, *symbol);
    memset(firsts + end, 0, ((1 << AC_BITS) - end) * sizeof *firsts);
    for (unsigned i = 0; i < 1 << AC_BITS; i++) {
        uint32_t entry = firsts[i];
        bool is_last = !(entry & 63) || entry >> AC_STEP & AC_END;
        table->fast[i] = is_last ? entry : second_entry(entry, firsts[i << (entry & 63) & ((1 << AC_BITS) - 1)]);
    }
    return true;
}

/* One symbol: its code's length, with its value's, and where it leads, 16 bits each. */
struct single {
    uint8_t length, both;
    uint16_t step;
};

/* All whole codes in the bits `index`. */
static uint16_t pass_entry(const struct single *singles, unsigned index)
{
    unsigned used = 0, step = 0;
    while (used < PASS_BITS && step < PASS_END) {
        struct single single = singles[index << used & ((1 << PASS_BITS) - 1)];
        if (!single.length || used + single.length > PASS_BITS)
            break;
        used += single.both;
        step += single.step;
    }
    return (uint16_t)(used | step << PASS_STEP);
}

void codec_build_passes(struct ac_table *table, struct definition definition)
{
    struct single singles[1 << PASS_BITS];
    const uint8_t *symbol = definition.bytes + MAX_LENGTH;
    unsigned end = 0;
    for (unsigned length = 1; length <= PASS_BITS; length++)
        for (unsigned left = definition.bytes[length - 1]; left; left--, symbol++) {
            bool is_end = !(*symbol & 15) && *symbol != ZRL;
            struct single single = {(uint8_t)length, (uint8_t)(length + (*symbol & 15)),
                                    is_end ? PASS_END : (uint16_t)((*symbol >> 4) + 1)};
            for (unsigned span = 1u << (PASS_BITS - length); span; span--)
                singles[end++] = single;
        }
    memset(singles + end, 0, ((1 << PASS_BITS) - end) * sizeof *singles);
    for (unsigned i = 0; i < 1 << PASS_BITS; i++)
        table->passes[i] = pass_entry(singles, i);
    table->has_passes = true;
}
