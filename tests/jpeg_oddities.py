"""JPEGs that no encoder at hand writes: unusual sampling ratios, arithmetic coding, stray bytes."""

from __future__ import annotations

import base64
import io

from PIL import Image

# 24 x 16, red 10 * x, green 15 * y, blue 100, quality 75: written by libjpeg-turbo 2.1.5 with `arith_code`.
ARITHMETIC = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwcKDcpLDAxNDQ0Hyc5PTgy"
    "PC4zNDL/2wBDAQkJCQwLDBgNDRgyIRwhMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjL/yQARCAAQABgD"
    "ASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/ALdVWPPg/wDs8GOwZ3AEdcFEwS38hIROQbOEsdlvAeZHu8mrbBhcuIVy4qgbvncj"
    "EP/Z"
)


def stray_bytes(data: bytes, marker: bytes) -> bytes:
    """Put two bytes before a marker, which libjpeg skips and warns of."""
    place = data.index(marker)
    return data[:place] + b"\x11\x22" + data[place:]


def left_over(data: bytes, content: bytes) -> bytes:
    """Put bytes between the coded data and the end-of-image marker: libjpeg reads seven ahead without a word."""
    return data[:-2] + content + data[-2:]


def flat(sampling: list[tuple[int, int]]) -> bytes:
    """A grey-looking colour JPEG of one MCU, with any sampling factors.

    A block of zeros is the code for a difference of 0 and the code for the end of the block: in the standard's tables
    00 and 1010 for luma, 00 and 00 for chroma (ITU-T T.81, annex K.3).
    """
    width, height = (8 * max(factors) for factors in zip(*sampling, strict=True))
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (128, 128, 128)).save(buffer, "JPEG", subsampling="4:4:4")
    data = bytearray(buffer.getvalue())
    frame = data.index(b"\xff\xc0")
    for component, (horizontal, vertical) in enumerate(sampling):
        data[frame + 11 + 3 * component] = horizontal << 4 | vertical
    bits = "".join(
        ("001010" if component == 0 else "0000") * (horizontal * vertical)
        for component, (horizontal, vertical) in enumerate(sampling)
    )
    bits += "1" * (-len(bits) % 8)
    scan = data.index(b"\xff\xda")
    header = data[: scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")]
    return bytes(header) + int(bits, 2).to_bytes(len(bits) // 8, "big") + b"\xff\xd9"
