#include "planes.h"

#include "vectors.h"

#if CODEC_AVX2
#include <immintrin.h>
#include <string.h>
#endif

static void split_from(const uint8_t *rgb, unsigned start, unsigned width, uint8_t *row)
{
    size_t pitch = plane_pitch(width);
    for (unsigned x = start; x < width; x++)
        for (unsigned plane = 0; plane < NUM_PLANES; plane++)
            row[plane * pitch + x] = rgb[(size_t)x * NUM_PLANES + plane];
}

#if CODEC_AVX2
enum { PIXELS = 32, LANE = 16 };

/* The `part`-th 16 of the 48 bytes of 16 pixels, and of the 16 pixels behind them. */
AVX2_INLINE __m256i load_part(const uint8_t *rgb, int part)
{
    const uint8_t *first = rgb + LANE * part;
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)first)),
                                   _mm_loadu_si128((const __m128i *)(first + LANE * NUM_PLANES)), 1);
}

/* Put the samples of one colour that lie in the `part`-th 16 of 48 bytes to their places; others are zero. */
AVX2_INLINE __m256i pick(__m256i bytes, int part, int plane)
{
    char places[LANE];
    for (int i = 0; i < LANE; i++) {
        int at = NUM_PLANES * i + plane;
        places[i] = (char)(at / LANE == part ? at % LANE : -1);
    }
    __m128i half;
    memcpy(&half, places, sizeof half);
    return _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(half));
}

AVX2_INLINE void store_plane(const __m256i parts[NUM_PLANES], int plane, uint8_t *samples)
{
    __m256i bytes = _mm256_or_si256(pick(parts[0], 0, plane), pick(parts[1], 1, plane));
    _mm256_storeu_si256((__m256i *)samples, _mm256_or_si256(bytes, pick(parts[2], 2, plane)));
}

AVX2_FUNCTION static void split_avx2(const uint8_t *rgb, unsigned width, uint8_t *row)
{
    size_t pitch = plane_pitch(width);
    unsigned x = 0;
    for (; x + PIXELS <= width; x += PIXELS) {
        const uint8_t *pixels = rgb + (size_t)x * NUM_PLANES;
        __m256i parts[NUM_PLANES] = {load_part(pixels, 0), load_part(pixels, 1), load_part(pixels, 2)};
        store_plane(parts, 0, row + x);
        store_plane(parts, 1, row + pitch + x);
        store_plane(parts, 2, row + 2 * pitch + x);
    }
    split_from(rgb, x, width, row);
}
#endif

void planes_split(const uint8_t *rgb, unsigned width, uint8_t *row)
{
#if CODEC_AVX2
    if (has_avx2()) {
        split_avx2(rgb, width, row);
        return;
    }
#endif
    split_from(rgb, 0, width, row);
}
