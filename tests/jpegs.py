"""JPEGs of every kind, small, and what is in them by an independent reader."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from native_codec import build
from PIL import Image
from sources import encoded, pixels

HEIGHT, WIDTH = 45, 70
PICTURE = pixels(HEIGHT, WIDTH)

_PILLOW_KINDS = {
    "4:2:0": {"subsampling": "4:2:0"},
    "4:2:2": {"subsampling": "4:2:2"},
    "4:4:4": {"subsampling": "4:4:4"},
    "progressive": {"progressive": True},
    "progressive 4:4:4": {"progressive": True, "subsampling": "4:4:4"},
    "restarts": {"restart_marker_blocks": 3},
    "progressive restarts": {"progressive": True, "restart_marker_rows": 1},
    "rgb": {"keep_rgb": True},
    "exif": {"exif": b"Exif\0\0II*\0\x08\0\0\0" + bytes(6), "comment": b"a comment"},
}
_MADE_KINDS = {
    "rgb progressive": "rgb progressive",
    "separate scans": "separate",
    "separate scans, 12 blocks": "separate sampling=22,22,22",
    "4:1:1": "sampling=41,11,11",
    "4:4:0": "sampling=12,11,11",
    "odd sampling": "sampling=22,21,11",
    "grey subsampled": "sampling=11,22,22",
    "three by two": "sampling=32,11,11",
    "16-bit tables": "wide-tables",
    "progressive that ends early": "early-end",
    "300 scans": "scans=300",
}
_ARITHMETIC = {"arithmetic": "arithmetic", "arithmetic progressive": "arithmetic progressive"}


class JpegMaker:
    """Makes JPEGs that Pillow cannot write, and dumps coefficients.

    Args:
        folder: where its two programs are built.
        picture: what they show, RGB.
    """

    def __init__(self, folder: Path, picture: Image.Image = PICTURE) -> None:
        self._folder = folder
        self._picture = picture
        self._make = build("jpeg_make", folder)
        self._dump = build("jpeg_dump", folder)

    def make(self, options: str) -> bytes:
        file = self._folder / "made.jpg"
        command = [self._make, str(self._picture.width), str(self._picture.height), file, *options.split()]
        subprocess.run(command, input=self._picture.tobytes(), check=True, stderr=subprocess.DEVNULL)
        return file.read_bytes()

    def coefficients(self, data: bytes) -> bytes:
        """Size, colour space, sampling factors, quantization tables and coefficients, as libjpeg's reader has them."""
        file = self._folder / "dumped.jpg"
        file.write_bytes(data)
        return subprocess.run([self._dump, file], check=True, capture_output=True).stdout

    def taken(self) -> Mapping[str, bytes]:
        """One JPEG of each kind that a store can hold, or that can be made one without loss."""
        kinds = {name: encoded(self._picture, quality=85, **options) for name, options in _PILLOW_KINDS.items()}
        for progressive in (False, True):
            kinds[f"grey, progressive {progressive}"] = encoded(self._picture.convert("L"), progressive=progressive)
        return kinds | {name: self.make(options) for name, options in (_MADE_KINDS | _ARITHMETIC).items()}

    def cmyk(self) -> Mapping[str, bytes]:
        cmyk = self._picture.convert("CMYK")
        return {f"CMYK, progressive {p}": encoded(cmyk, progressive=p) for p in (False, True)}


def without_huffman_tables(data: bytes) -> bytes:
    """Leave out the tables of a JPEG that has the standard's (ITU-T T.81, annex K.3), as cameras do in Motion JPEG."""
    while (place := data.find(b"\xff\xc4")) >= 0:
        data = data[:place] + data[place + 2 + int.from_bytes(data[place + 2 : place + 4], "big") :]
    return data
