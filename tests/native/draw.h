/* What both fuzzers draw from. */
#ifndef DRAW_H
#define DRAW_H

#include <stddef.h>
#include <stdint.h>

static uint64_t state;

/* xorshift64*, below `bound`. */
static size_t draw(size_t bound)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return bound ? (size_t)((state * 0x2545F4914F6CDD1DULL) >> 11) % bound : 0;
}

/* A place, mostly among the first bytes: markers there decide more than coefficients do. */
static size_t place(size_t size)
{
    return draw(2) ? draw(size) : draw(size < 700 ? size : 700);
}

#endif
