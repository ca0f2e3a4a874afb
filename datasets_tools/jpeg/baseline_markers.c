/* The markers of a JPEG up to its scan, for the baseline decoder: what is unusual is not understood. */
#include <string.h>

#include "baseline_parts.h"

enum {
    SOF0 = 0xC0,
    SOF1 = 0xC1,
    DHT = 0xC4,
    SOI = 0xD8,
    SOS = 0xDA,
    DQT = 0xDB,
    DRI = 0xDD,
    APP0 = 0xE0,
    APP14 = 0xEE,
    APP15 = 0xEF,
    COM = 0xFE
};

static unsigned big_endian(const uint8_t *bytes)
{
    return (unsigned)bytes[0] << 8 | bytes[1];
}

static bool read_sizes(codec_bytes body, struct frame *frame)
{
    const uint8_t *data = body.data;
    if (frame->num_components || body.size < 6 || data[0] != 8 || (data[5] != 1 && data[5] != 3) ||
        body.size != 6 + 3u * data[5])
        return false;
    frame->height = big_endian(data + 1);
    frame->width = big_endian(data + 3);
    frame->num_components = data[5];
    for (unsigned i = 0; i < frame->num_components; i++) {
        const uint8_t *entry = data + 6 + 3 * i;
        if (entry[2] >= NUM_TABLES)
            return false;
        frame->components[i] = (struct frame_component){
            .id = entry[0], .horizontal = entry[1] >> 4, .vertical = entry[1] & 15, .quantization = entry[2]};
    }
    return frame->height && frame->width && frame->height <= CODEC_MAX_SIDE && frame->width <= CODEC_MAX_SIDE;
}

static bool read_huffman(codec_bytes body, struct frame *frame)
{
    const uint8_t *next = body.data, *end = body.data + body.size;
    while (end - next > 17) {
        unsigned index = *next++;
        size_t count = 0;
        for (int i = 0; i < 16; i++)
            count += next[i];
        if ((index & 0xEF) >= NUM_TABLES || count > 256 || count + 16 > (size_t)(end - next))
            return false;
        struct definition *tables = index & 0x10 ? frame->ac : frame->dc;
        tables[index & 0xF] = (struct definition){next, count + 16};
        next += count + 16;
    }
    return next == end;
}

static bool read_quantization(codec_bytes body, struct frame *frame)
{
    if (body.size % (1 + COEFFICIENTS))
        return false;
    for (size_t at = 0; at < body.size; at += 1 + COEFFICIENTS) {
        if (body.data[at] >= NUM_TABLES) /* also the tables of 16 bits */
            return false;
        frame->quantization[body.data[at]] = body.data + at + 1;
    }
    return true;
}

/* One scan of all components, in the frame's order. */
static bool read_scan(codec_bytes body, struct frame *frame)
{
    static const uint8_t whole_spectrum[3] = {0, COEFFICIENTS - 1, 0};
    unsigned count = frame->num_components;
    if (!count || body.size != 4 + 2 * count || body.data[0] != count ||
        memcmp(body.data + 1 + 2 * count, whole_spectrum, sizeof whole_spectrum))
        return false;
    for (unsigned i = 0; i < count; i++) {
        struct frame_component *component = &frame->components[i];
        const uint8_t *entry = body.data + 1 + 2 * i;
        component->dc = entry[1] >> 4;
        component->ac = entry[1] & 15;
        if (entry[0] != component->id || component->dc >= NUM_TABLES || component->ac >= NUM_TABLES ||
            !frame->dc[component->dc].bytes || !frame->ac[component->ac].bytes ||
            !frame->quantization[component->quantization])
            return false;
    }
    frame->scan = body.data + body.size;
    return true;
}

/* Take a segment. False: it is not understood. */
static bool take_segment(unsigned marker, codec_bytes body, struct frame *frame)
{
    switch (marker) {
    case SOF0:
    case SOF1:
        return read_sizes(body, frame);
    case DHT:
        return read_huffman(body, frame);
    case DQT:
        return read_quantization(body, frame);
    case DRI:
        frame->restart_interval = body.size == 2 ? big_endian(body.data) : 0;
        return body.size == 2;
    case SOS:
        return read_scan(body, frame);
    case APP0:
        frame->jfif |= body.size >= 14 && !memcmp(body.data, "JFIF", 5);
        return true;
    case APP14:
        if (body.size >= 12 && !memcmp(body.data, "Adobe", 5)) {
            frame->adobe = true;
            frame->adobe_transform = body.data[11];
        }
        return true;
    default:
        return (marker > APP0 && marker <= APP15) || marker == COM;
    }
}

/* Whether libjpeg takes three components for YCbCr, and for sure. */
static bool is_ycc(const struct frame *frame)
{
    const struct frame_component *components = frame->components;
    if (frame->jfif)
        return true;
    if (frame->adobe)
        return frame->adobe_transform == 1;
    return components[0].id == 1 && components[1].id == 2 && components[2].id == 3;
}

static bool is_supported(const struct frame *frame)
{
    const struct frame_component *components = frame->components;
    if (frame->num_components == 1)
        return true;
    for (unsigned i = 1; i < MAX_COMPONENTS; i++)
        if (components[i].horizontal != 1 || components[i].vertical != 1)
            return false;
    unsigned horizontal = components[0].horizontal, vertical = components[0].vertical;
    /* libjpeg does not smooth where chroma has but two columns. */
    return (horizontal == 1 || (horizontal == 2 && frame->width > 4)) && (vertical == 1 || vertical == 2) &&
           is_ycc(frame) && components[0].id != components[1].id && components[0].id != components[2].id &&
           components[1].id != components[2].id;
}

bool codec_read_frame(codec_bytes jpeg, struct frame *frame)
{
    const uint8_t *next = jpeg.data, *end = jpeg.data + jpeg.size;
    memset(frame, 0, sizeof *frame);
    if (jpeg.size < 2 || *next++ != 0xFF || *next++ != SOI)
        return false;
    while (!frame->scan) {
        if (end - next < 4 || *next++ != 0xFF)
            return false;
        while (*next == 0xFF && end - next > 3) /* fill bytes */
            next++;
        unsigned marker = *next++;
        size_t size = end - next < 2 ? 0 : big_endian(next);
        if (size < 2 || size > (size_t)(end - next) ||
            !take_segment(marker, (codec_bytes){next + 2, size - 2}, frame))
            return false;
        next += size;
    }
    return is_supported(frame);
}
