"""What the markers of a JPEG say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Subsampling(IntEnum):
    """How a JPEG's colour planes are subsampled; `OTHER` is anything without a common name."""

    GREY = 0
    S444 = 1
    S422 = 2
    S420 = 3
    S440 = 4
    S411 = 5
    S410 = 6
    OTHER = 255


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
        orientation: EXIF orientation, 1 to 8; 0 where none is given or it makes no sense.
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


def header_of(facts: tuple[int, int, int, int, int, bool, bool, int, int, bool]) -> JpegHeader:
    """Return the header of which `facts` are the fields in order, as the extension gives them."""
    height, width, precision, components, subsampling, progressive, huffman, interval, orientation, complete = facts
    named = Subsampling(subsampling)
    return JpegHeader(
        height, width, precision, components, named, progressive, huffman, interval, orientation, complete
    )
