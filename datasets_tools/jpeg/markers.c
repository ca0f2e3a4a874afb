/* A JPEG's markers, read without libjpeg.
 *
 * Source: ITU-T T.81, annex B (markers), and EXIF 2.32, section 4.6 (orientation, tag 0x0112).
 */
#include <string.h>

#include "error.h"

enum { SOF0 = 0xC0, SOF2 = 0xC2, DHT = 0xC4, JPG = 0xC8, DAC = 0xCC, SOF15 = 0xCF };
enum { RST0 = 0xD0, RST7 = 0xD7, SOI = 0xD8, EOI = 0xD9, SOS = 0xDA, DRI = 0xDD, APP1 = 0xE1, TEM = 0x01 };
enum { NO_MARKER = -1, BROKEN = -2 };
enum { TIFF_LONG = 4 };

struct walk {
    codec_bytes jpeg;
    size_t position;
    codec_error *error;
    unsigned num_scans;
    unsigned tables; /* the Huffman tables defined so far: bit n is DC table n, bit 4 + n AC table n */
    bool lenient; /* skip, as libjpeg does, stray bytes between segments, and lengths that make no sense */
};

static unsigned big_endian(const uint8_t *bytes)
{
    return (unsigned)bytes[0] << 8 | bytes[1];
}

/* The marker at `position`, after fill bytes; NO_MARKER at the end of the data. */
static int next_marker(struct walk *walk)
{
    const uint8_t *data = walk->jpeg.data;
    size_t size = walk->jpeg.size, start = walk->position;
    for (;;) {
        while (walk->lenient && walk->position < size && data[walk->position] != 0xFF)
            walk->position++;
        while (walk->position < size && data[walk->position] == 0xFF)
            walk->position++;
        if (walk->position >= size)
            return NO_MARKER;
        if (walk->position > start && data[walk->position - 1] == 0xFF && data[walk->position])
            return data[walk->position++];
        if (!walk->lenient)
            break;
        walk->position++; /* FF 00 is stray too */
    }
    codec_fail(walk->error, CODEC_BAD_JPEG, "is a broken JPEG: byte %zu should begin a marker and is 0x%02x", start,
               data[start]);
    return BROKEN;
}

/* The segment at `position`, without its two bytes of length; no data where it is cut off. */
static codec_bytes next_segment(struct walk *walk)
{
    codec_bytes none = {NULL, 0};
    size_t left = walk->jpeg.size - walk->position;
    const uint8_t *start = walk->jpeg.data + walk->position;
    size_t size = left < 2 ? 0 : big_endian(start);
    if (walk->lenient && left >= 2 && size < 2)
        size = 2;
    if (size < 2 || size > left) {
        codec_fail(walk->error, CODEC_BAD_JPEG, "ends early: inside a marker segment");
        return none;
    }
    walk->position += size;
    return (codec_bytes){start + 2, size - 2};
}

/* Inside a scan FF is followed by 00 (a stuffed byte), by RSTn, or by the marker that ends the scan. */
static void skip_scan(struct walk *walk)
{
    const uint8_t *end = walk->jpeg.data + walk->jpeg.size, *next = walk->jpeg.data + walk->position;
    while ((next = memchr(next, 0xFF, (size_t)(end - next))) && next + 1 < end) {
        uint8_t code = next[1];
        if (code != 0 && code != 0xFF && !(code >= RST0 && code <= RST7)) {
            walk->position = (size_t)(next - walk->jpeg.data);
            return;
        }
        next++;
    }
    walk->position = walk->jpeg.size;
}

/* C0 to CF without DHT, JPG and DAC. */
static bool is_frame(int marker)
{
    return marker >= SOF0 && marker <= SOF15 && marker != DHT && marker != JPG && marker != DAC;
}

/* Name the ratio of the first component's sampling factors to the others', which must agree. */
static codec_subsampling name_subsampling(const uint8_t *components, unsigned count)
{
    static const struct {
        unsigned horizontal, vertical;
        codec_subsampling name;
    } names[] = {{1, 1, CODEC_444}, {2, 1, CODEC_422}, {2, 2, CODEC_420},
                 {1, 2, CODEC_440}, {4, 1, CODEC_411}, {4, 2, CODEC_410}};
    if (count == 1)
        return CODEC_GREY;
    uint8_t first = components[1], other = components[4];
    for (unsigned i = 2; i < count; i++)
        if (components[3 * i + 1] != other)
            return CODEC_OTHER;
    unsigned horizontal = other >> 4, vertical = other & 15;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (vertical && horizontal && first >> 4 == names[i].horizontal * horizontal &&
            (first & 15u) == names[i].vertical * vertical)
            return names[i].name;
    return CODEC_OTHER;
}

static codec_status read_frame(int marker, codec_bytes body, codec_header *header, codec_error *error)
{
    const uint8_t *data = body.data;
    if (body.size < 6 || !data[5] || body.size != 6 + 3u * data[5])
        return codec_fail(error, CODEC_BAD_JPEG, "is a broken JPEG: its frame header has a wrong length");
    header->precision = data[0];
    header->height = big_endian(data + 1);
    header->width = big_endian(data + 3);
    header->components = data[5];
    header->subsampling = name_subsampling(data + 6, data[5]);
    header->progressive = (marker & 3) == 2; /* T.81, table B.1: SOF2, 6, 10 and 14 */
    header->huffman = marker <= SOF2; /* baseline, extended sequential, progressive */
    if (!header->height || !header->width)
        return codec_fail(error, CODEC_BAD_JPEG, "is a broken JPEG: its size is %u x %u", header->width,
                          header->height);
    return CODEC_OK;
}

struct tiff {
    codec_bytes bytes;
    bool little_endian;
};

/* The number at `start`; 0 beyond the end. */
static uint32_t tiff_number(const struct tiff *tiff, uint64_t start, unsigned size)
{
    uint32_t number = 0;
    for (unsigned i = 0; i < size; i++) {
        uint64_t place = start + (tiff->little_endian ? size - 1 - i : i);
        number = number << 8 | (place < tiff->bytes.size ? tiff->bytes.data[place] : 0);
    }
    return number;
}

/* Tag 0x0112 of the first directory of an EXIF segment; 0 where it is absent or makes no sense. */
static unsigned exif_orientation(codec_bytes body)
{
    if (body.size < 10 || memcmp(body.data, "Exif\0\0", 6))
        return 0;
    struct tiff tiff = {{body.data + 6, body.size - 6}, body.data[6] == 'I'};
    if (memcmp(tiff.bytes.data, "II*\0", 4) && memcmp(tiff.bytes.data, "MM\0*", 4))
        return 0;
    uint64_t entry = (uint64_t)tiff_number(&tiff, 4, 4) + 2;
    uint64_t end = entry + 12u * tiff_number(&tiff, entry - 2, 2);
    for (; entry < end && entry + 12 <= tiff.bytes.size; entry += 12)
        if (tiff_number(&tiff, entry, 2) == 0x0112) {
            bool is_long = tiff_number(&tiff, entry + 2, 2) == TIFF_LONG; /* EXIF says SHORT; some writers do not */
            uint32_t value = tiff_number(&tiff, entry + 8, is_long ? 4 : 2);
            return value <= 8 ? value : 0;
        }
    return 0;
}

/* Note the tables of a DHT segment: each a byte of class and number, 16 counts, and as many values (T.81, B.2.4.2). */
static void note_tables(struct walk *walk, codec_bytes body)
{
    for (size_t at = 0, next; at + 17 <= body.size; at = next) {
        next = at + 17;
        for (int i = 1; i <= 16; i++)
            next += body.data[at + i];
        walk->tables |= 1u << ((body.data[at] >> 4 & 1) * 4 + (body.data[at] & 3));
    }
}

/* Whether a scan's Huffman tables are defined. libjpeg fills in the standard's for those that are not, if it has none
 * left from another picture: a decoder that serves many pictures shows noise. */
static bool has_tables(const struct walk *walk, codec_bytes body, const codec_header *header)
{
    size_t count = body.size ? body.data[0] : 0;
    if (!header->huffman || body.size != 4 + 2 * count)
        return true;
    const uint8_t *spectrum = body.data + 1 + 2 * count; /* first and last coefficient, high and low bit */
    bool needs_dc = !header->progressive || (!spectrum[0] && !(spectrum[2] >> 4));
    bool needs_ac = !header->progressive || spectrum[0];
    for (size_t i = 0; i < count; i++) {
        uint8_t tables = body.data[2 + 2 * i];
        if ((needs_dc && !(walk->tables >> (tables >> 4 & 3) & 1)) ||
            (needs_ac && !(walk->tables >> (4 + (tables & 3)) & 1)))
            return false;
    }
    return true;
}

/* Take a marker that has a segment, or a scan, behind it. */
static codec_status take_segment(struct walk *walk, int marker, codec_header *header)
{
    codec_bytes body = next_segment(walk);
    if (!body.data)
        return walk->error->status;
    if (is_frame(marker) && !header->components)
        return read_frame(marker, body, header, walk->error);
    if (marker == DRI && body.size == 2)
        header->restart_interval = big_endian(body.data);
    else if (marker == APP1 && !header->orientation)
        header->orientation = exif_orientation(body);
    else if (marker == DHT)
        note_tables(walk, body);
    else if (marker == SOS) {
        if (++walk->num_scans > CODEC_MAX_SCANS)
            return codec_fail(walk->error, CODEC_BAD_JPEG, "has over %d scans", CODEC_MAX_SCANS);
        if (!has_tables(walk, body, header))
            return codec_fail(walk->error, CODEC_BAD_JPEG, "is a broken JPEG: its scan %u has no Huffman tables",
                              walk->num_scans);
        skip_scan(walk);
    }
    return CODEC_OK;
}

static bool is_alone(int marker)
{
    return marker == TEM || (marker >= RST0 && marker <= RST7);
}

static codec_status walk_markers(codec_bytes jpeg, bool to_frame_only, codec_header *header, codec_error *error)
{
    struct walk walk = {.jpeg = jpeg, .position = 2 /* behind SOI */, .error = error, .lenient = to_frame_only};
    memset(header, 0, sizeof *header);
    if (jpeg.size < 2 || jpeg.data[0] != 0xFF || jpeg.data[1] != SOI)
        return codec_fail(error, CODEC_BAD_JPEG, "is no JPEG: it does not begin with FF D8");
    while (!(to_frame_only && header->components)) {
        int marker = next_marker(&walk);
        if (marker == BROKEN)
            return error->status;
        header->complete = marker == EOI;
        if (marker == NO_MARKER || marker == EOI)
            break;
        if (is_alone(marker)) { /* no segment follows it; libjpeg skips it, most other decoders do not */
            if (walk.lenient)
                continue;
            return codec_fail(error, CODEC_BAD_JPEG, "is a broken JPEG: marker 0x%02x before byte %zu is in no scan",
                              marker, walk.position);
        }
        if (take_segment(&walk, marker, header) != CODEC_OK)
            return error->status;
    }
    if (!header->components)
        return codec_fail(error, CODEC_BAD_JPEG, "is a broken JPEG: it holds no frame header");
    return CODEC_OK;
}

codec_status codec_inspect(codec_bytes jpeg, codec_header *header, codec_error *error)
{
    return walk_markers(jpeg, false, header, error);
}

codec_status codec_frame(codec_bytes jpeg, codec_header *header, codec_error *error)
{
    return walk_markers(jpeg, true, header, error);
}
