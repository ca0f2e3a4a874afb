"""Photographs and textures as every kind of JPEG that a store may hold, and as raw pixels."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from jpegs import JpegMaker, without_huffman_tables
from numpy.typing import NDArray
from PIL import Image
from stores import StoredPicture

from datasets_tools.photographs import load
from datasets_tools.pictures import Policy, prepare

_ORIENTATION = 0x0112
_ROTATE_270 = 6

PHOTOGRAPHS = {
    "astronaut 4:4:4": ("astronaut", {"subsampling": "4:4:4", "quality": 95}),
    "chelsea 4:2:0": ("chelsea", {"subsampling": "4:2:0", "quality": 90}),
    "coffee 4:2:2": ("coffee", {"subsampling": "4:2:2", "quality": 90}),
    "china progressive": ("china", {"subsampling": "4:2:0", "quality": 90, "progressive": True}),
    "flower EXIF 6": ("flower", {"subsampling": "4:2:0", "quality": 92, "orientation": _ROTATE_270}),
    "rocket grey": ("rocket", {"mode": "L", "quality": 90}),
}
TEXTURES = {
    "grass": ("grass", {"mode": "L", "quality": 98}),
    "gravel EXIF 6": ("gravel", {"subsampling": "4:4:4", "quality": 98, "orientation": _ROTATE_270}),
    "chirp": ("chirp", {"subsampling": "4:2:0", "quality": 98}),
}
# Photographs as raw pixels.
RAW = ("astronaut", "chelsea", "coffee", "rocket")


def _chirp() -> NDArray[np.uint8]:
    """Rings that grow finer outwards, down to 5 pixels a period: something to measure in every direction."""
    y, x = np.mgrid[0:401, 0:513]
    radius_squared = (y - 190.3) ** 2 + (x - 260.8) ** 2
    return (127.5 + 100 * np.cos(np.pi * radius_squared / 5 / 320)).astype(np.uint8)


def stored(key: str, source: str, *, mode: str = "RGB", orientation: int = 1, **encoding: object) -> StoredPicture:
    image = Image.fromarray(_chirp() if source == "chirp" else load(source)).convert(mode)
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", exif=exif, **encoding)
    return StoredPicture(key, buffer.getvalue(), image.height, image.width)


def stored_oddities(folder: Path) -> list[StoredPicture]:
    """One photograph as each kind of JPEG that conversion takes, as conversion stores it."""
    kinds = dict(JpegMaker(folder, Image.fromarray(load("chelsea"))).taken())
    kinds["no Huffman tables"] = without_huffman_tables(kinds["4:2:0"])
    prepared = {key: prepare(key, data, Policy(transcode=False)) for key, data in kinds.items()}
    return [StoredPicture(key, bytes(p.data), p.height, p.width) for key, p in prepared.items()]


def stored_raw(source: str) -> StoredPicture:
    pixels = load(source)
    return StoredPicture(f"{source} raw", pixels.tobytes(), *pixels.shape[:2], raw=True)
