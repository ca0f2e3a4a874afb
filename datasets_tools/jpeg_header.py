"""What a JPEG says of itself, read from its markers without decoding a pixel.

Source: ITU-T T.81, annex B (markers), and EXIF 2.32, section 4.6 (orientation, tag 0x0112).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from datasets_tools.index import Subsampling

_SOI, _EOI, _SOS, _DRI, _APP1 = 0xD8, 0xD9, 0xDA, 0xDD, 0xE1
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # TEM and RSTn: markers without a segment
# Frame headers: C0 to CF without DHT (C4), JPG (C8) and DAC (CC).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended sequential, progressive
_PROGRESSIVE = 0xC2
# Inside a scan, FF is followed by 00 (a stuffed byte), by RSTn, or by the marker that ends the scan. The pattern begins
# with a plain byte, not with its repetition: then `re` jumps from FF to FF with memchr, 10 times faster.
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")

_SUBSAMPLINGS = {
    (1, 1): Subsampling.S444,
    (2, 1): Subsampling.S422,
    (2, 2): Subsampling.S420,
    (1, 2): Subsampling.S440,
    (4, 1): Subsampling.S411,
    (4, 2): Subsampling.S410,
}


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """The facts of a JPEG's markers.

    Attributes:
        height, width: in pixels, of the frame header; EXIF orientation is not applied.
        precision: bits per sample.
        components: 1 grey, 3 colour, 4 CMYK or YCCK.
        subsampling: of the second and third component.
        progressive: the frame is progressive.
        huffman: the frame is Huffman-coded and lossy: baseline, extended sequential or progressive.
        restart_interval: in MCUs; 0 where there are no restart markers.
        orientation: EXIF orientation, 1 to 8; 0 where none is given.
        complete: the stream reaches its end-of-image marker.
    """

    height: int
    width: int
    precision: int
    components: int
    subsampling: Subsampling
    progressive: bool
    huffman: bool
    restart_interval: int
    orientation: int
    complete: bool


def parse_jpeg(data: bytes) -> JpegHeader:
    """Read the markers of a JPEG, to its end-of-image marker.

    Args:
        data: the encoded picture.

    Raises:
        ValueError: the markers are broken; one short sentence says how.
    """
    frame, frame_body = 0, b""
    restart_interval = orientation = 0
    position = 2
    while (found := _marker(data, position)) is not None:
        marker, position = found
        if marker == _EOI:
            break
        if marker in _STANDALONE:
            continue
        body = _segment(data, position)
        position += 2 + len(body)
        if marker in _FRAMES and not frame:
            frame, frame_body = marker, body
        elif marker == _DRI and len(body) == 2:
            restart_interval = int.from_bytes(body, "big")
        elif marker == _APP1 and not orientation:
            orientation = _exif_orientation(body)
        elif marker == _SOS:
            scan_end = _END_OF_SCAN.search(data, position)
            position = scan_end.start() if scan_end else len(data)
    if not frame:
        raise ValueError("holds no frame header")
    return _header(frame, frame_body, restart_interval, orientation, complete=found is not None)


def _marker(data: bytes, position: int) -> tuple[int, int] | None:
    """Return the marker at `position`, after fill bytes, and where it ends; None at the end of the data."""
    if position >= len(data):
        return None
    if data[position] != 0xFF:
        raise ValueError(f"byte {position} should begin a JPEG marker and is {data[position]:#04x}")
    while position < len(data) and data[position] == 0xFF:
        position += 1
    return (data[position], position + 1) if position < len(data) else None


def _segment(data: bytes, position: int) -> bytes:
    size = int.from_bytes(data[position : position + 2], "big")
    body = data[position + 2 : position + size]
    if size < 2 or len(body) != size - 2:
        raise ValueError("ends early: inside a marker segment")
    return body


def _header(frame: int, body: bytes, restart_interval: int, orientation: int, *, complete: bool) -> JpegHeader:
    if len(body) < 6 or not body[5] or len(body) != 6 + 3 * body[5]:
        raise ValueError("has a broken frame header")
    sampling = [(byte >> 4, byte & 15) for byte in body[7::3]]
    return JpegHeader(
        height=int.from_bytes(body[1:3], "big"),
        width=int.from_bytes(body[3:5], "big"),
        precision=body[0],
        components=body[5],
        subsampling=_subsampling(sampling),
        progressive=frame == _PROGRESSIVE,
        huffman=frame in _HUFFMAN_FRAMES,
        restart_interval=restart_interval,
        orientation=orientation,
        complete=complete,
    )


def _subsampling(sampling: list[tuple[int, int]]) -> Subsampling:
    """Name the ratio of the first component's sampling factors to the others', which must agree."""
    if len(sampling) == 1:
        return Subsampling.GREY
    (horizontal, vertical), *others = sampling
    if len(set(others)) != 1 or 0 in others[0] or horizontal % others[0][0] or vertical % others[0][1]:
        return Subsampling.OTHER
    return _SUBSAMPLINGS.get((horizontal // others[0][0], vertical // others[0][1]), Subsampling.OTHER)


def _exif_orientation(body: bytes) -> int:
    """Return tag 0x0112 of the first directory of an EXIF segment, 0 where it is absent or makes no sense."""
    if not body.startswith(b"Exif\0\0"):
        return 0
    tiff = body[6:]
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(tiff[:4])
    if order is None:
        return 0

    def number(start: int, size: int) -> int:
        return int.from_bytes(tiff[start : start + size], "little" if order == "little" else "big")

    directory = number(4, 4)
    for entry in range(directory + 2, directory + 2 + 12 * number(directory, 2), 12):
        if entry + 12 <= len(tiff) and number(entry, 2) == 0x0112:
            value = number(entry + 8, 2)
            return value if 1 <= value <= 8 else 0
    return 0
