/* The bytes of a scan: stuffing is taken out before anything is decoded, so that the decoder's inner loop looks for no
 * markers, and the restart markers show where to begin. */
#include <string.h>

#include "baseline_parts.h"

#if CODEC_AVX2
#include <immintrin.h>
#endif

uint8_t *codec_unstuff(const uint8_t **from, const uint8_t *end, uint8_t *to)
{
    const uint8_t *next = *from;
    while (next < end) {
        const uint8_t *stop = memchr(next, 0xFF, (size_t)(end - next));
        size_t count = (size_t)((stop ? stop : end) - next);
        memcpy(to, next, count);
        to += count;
        next += count;
        if (!stop || next + 1 >= end || next[1]) /* FF as the last byte is no data */
            break;
        *to++ = 0xFF;
        next += 2;
    }
    *from = next;
    return to;
}

#if CODEC_AVX2
AVX2_FUNCTION uint8_t *codec_unstuff_avx2(const uint8_t **from, const uint8_t *end, uint8_t *to)
{
    const __m256i stop = _mm256_set1_epi8((char)0xFF);
    const uint8_t *next = *from;
    while (end - next > VECTOR) { /* so that the byte behind a vector is one too */
        __m256i bytes = _mm256_loadu_si256((const __m256i *)next);
        _mm256_storeu_si256((__m256i *)to, bytes);
        unsigned found = (unsigned)_mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, stop));
        unsigned count = found ? (unsigned)__builtin_ctz(found) : VECTOR;
        next += count;
        to += count;
        if (!found)
            continue;
        if (next[1]) {
            *from = next;
            return to;
        }
        to++; /* the FF, which is written already */
        next += 2;
    }
    *from = next;
    return codec_unstuff(from, end, to);
}
#endif

void codec_open_segment(const struct kernels *kernels, struct segment *segment)
{
    uint8_t *end = kernels->unstuff(&segment->raw, segment->raw_end, segment->bytes);
    memset(end, 0, READ_AHEAD);
    segment->bits = (struct bits){0, 0, segment->bytes};
    segment->end = end;
}

/* Pass the restart marker at `raw`, which must be the next one. */
static bool pass_restart(struct segment *segment)
{
    const uint8_t *raw = segment->raw;
    while (segment->raw_end - raw > 2 && raw[0] == 0xFF && raw[1] == 0xFF) /* fill bytes */
        raw++;
    if (segment->raw_end - raw < 2 || raw[0] != 0xFF || raw[1] != 0xD0 + segment->restart)
        return false;
    segment->restart = (segment->restart + 1) % 8;
    segment->raw = raw + 2;
    return true;
}

/* Move `raw` to the next FF that no zero follows. */
static void find_marker(struct segment *segment)
{
    const uint8_t *raw = segment->raw, *end = segment->raw_end;
    while ((raw = memchr(raw, 0xFF, (size_t)(end - raw))) && end - raw > 1 && !raw[1])
        raw += 2;
    segment->raw = raw ? raw : end;
}

bool codec_next_segment(const struct kernels *kernels, struct segment *segment, size_t count)
{
    for (; count > 1; count--) {
        if (!pass_restart(segment))
            return false;
        find_marker(segment);
    }
    if (!pass_restart(segment))
        return false;
    codec_open_segment(kernels, segment);
    return true;
}
