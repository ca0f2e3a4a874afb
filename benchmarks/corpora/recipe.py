"""What the benchmark corpus is made of: stated tables, drawn exactly, and pictures cut to them.

The tables imitate ImageNet's training set as far as it is published: its frequent sizes, its mean size of about
469x387 and its mean of about 110 KB a picture. The survey "Compression in the ImageNet Dataset" (2021, made with
torchjpeg) found that most of its pictures are of quality 96 and not chroma-subsampled. The exact shares and the byte
quantiles below are ours.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets_tools import photographs
from datasets_tools.sources.base import EntryList, Options

Storage = Literal["4:4:4", "4:2:0", "grey"]

# Width and height in pixels as stored, and the share of pictures. Mean 471.0 x 388.8.
SIZES: tuple[tuple[int, int, float], ...] = (
    *((500, 375, 0.310), (500, 333, 0.164), (375, 500, 0.087), (500, 334, 0.040), (500, 400, 0.033)),
    *((333, 500, 0.028), (500, 500, 0.017), (400, 500, 0.013), (480, 360, 0.024), (640, 480, 0.0405)),
    *((480, 640, 0.007), (400, 300, 0.046), (300, 400, 0.015), (300, 300, 0.014), (320, 240, 0.038)),
    *((240, 320, 0.012), (250, 188, 0.027), (200, 150, 0.018), (150, 200, 0.010), (160, 120, 0.009)),
    *((110, 110, 0.004), (800, 600, 0.015), (600, 800, 0.006), (1024, 768, 0.009), (768, 1024, 0.003)),
    *((1280, 960, 0.004), (1600, 1200, 0.003), (1200, 1600, 0.001), (2048, 1536, 0.001), (2592, 1944, 0.0008)),
    (4000, 3000, 0.0007),
)
# Bytes of a file by quantile, linear in between. Mean 112 kB.
FILE_BYTES: tuple[tuple[float, int], ...] = (
    *((0.0, 3_000), (0.01, 6_000), (0.05, 18_000), (0.10, 32_000), (0.25, 66_000), (0.50, 102_000), (0.75, 137_000)),
    *((0.90, 175_000), (0.95, 205_000), (0.99, 340_000), (0.999, 1_100_000), (1.0, 2_600_000)),
)
STORAGE: tuple[tuple[Storage, float], ...] = (("4:4:4", 0.70), ("4:2:0", 0.285), ("grey", 0.015))
PROGRESSIVE = 0.05
# EXIF orientations of pictures stored lying on their side, and what turned them so.
ROTATED = 0.01
TURNS = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
# A window is at most this many times as high as its picture.
MAX_ZOOM = 3.0
# Qualities the bisection may choose, on libjpeg's scale.
QUALITY = (20, 100)
# Before qualities are chosen, pictures are compared at the quality that survey found most often.
TYPICAL_QUALITY = 96
# How much a file's bytes vary between pictures of one size, photograph and storage: in natural logarithms, one
# standard deviation. More would ask too many pictures for more bytes than the highest quality gives.
BYTES_SIGMA = 0.25
# Labels mean nothing here; they are dealt in turn.
NUM_CLASSES = 10
VAL_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class CorpusEntry:
    """One picture of the corpus, not encoded yet.

    Attributes:
        key, label: its name and class.
        photograph: where it is cut from.
        window: top, left, height, width in the photograph, in pixels.
        size: height and width of the upright picture, in pixels.
        storage: its colour planes.
        progressive: how it is encoded.
        orientation: EXIF orientation; 1 is upright, and goes without a tag.
        target_bytes: how large its file shall be.
        is_reduced: no photograph is large enough for the size that was drawn.
    """

    key: str
    label: int
    photograph: str
    window: tuple[int, int, int, int]
    size: tuple[int, int]
    storage: Storage
    progressive: bool
    orientation: int
    target_bytes: int
    is_reduced: bool

    def read(self) -> bytes:
        """Cut the picture and encode it at the quality that brings its file nearest to `target_bytes`."""
        picture = photographs.cut(self.photograph, self.window, self.size)
        if self.orientation in TURNS:
            picture = picture.transpose(TURNS[self.orientation])
        low, high = QUALITY
        below, above = self._encode(picture, low), self._encode(picture, high)
        while high - low > 1 and len(below) < self.target_bytes < len(above):
            quality = (low + high) // 2
            stored = self._encode(picture, quality)
            if len(stored) < self.target_bytes:
                low, below = quality, stored
            else:
                high, above = quality, stored
        return min(below, above, key=lambda stored: abs(len(stored) - self.target_bytes))

    def _encode(self, picture: Image.Image, quality: int) -> bytes:
        return _encode(picture, self.storage, quality, progressive=self.progressive, orientation=self.orientation)


@dataclass(frozen=True)
class CorpusSource:
    """The corpus as a source of a conversion: every table is met as exactly as `count` pictures allow.

    Args:
        count: training pictures, at least 1.
        seed: decides every draw; 0 <= seed < 2**64.
    """

    count: int
    seed: int

    @property
    def name(self) -> str:
        """The layout."""
        return "benchmark corpus"

    @property
    def options(self) -> Options:
        """What decides the content."""
        return {"count": self.count, "seed": self.seed, "recipe_hash": self.recipe_hash}

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the meaningless classes."""
        return tuple(f"class {label}" for label in range(NUM_CLASSES))

    @property
    def label_sets(self) -> Mapping[str, Mapping[str, Sequence[Sequence[int]]]]:
        """None."""
        return {}

    @property
    def notes(self) -> Sequence[str]:
        """None: the statistics say what came out."""
        return ()

    @cached_property
    def splits(self) -> Mapping[str, EntryList[CorpusEntry]]:
        """`train`, and a `val` of 5 % more."""
        num_val = max(NUM_CLASSES, round(VAL_SHARE * self.count))
        counts = {"train": self.count, "val": num_val}
        return {name: EntryList(_draw(count, self.seed, stream)) for stream, (name, count) in enumerate(counts.items())}

    @cached_property
    def recipe_hash(self) -> str:
        """SHA-256 over every picture's recipe and the pixels of the photographs they are cut from."""
        entries = [entry for split in self.splits.values() for entry in split.entries]
        names = sorted({entry.photograph for entry in entries})
        pixels = {name: hashlib.sha256(photographs.load(name).data).hexdigest() for name in names}
        recipe = json.dumps([QUALITY, [astuple(entry) for entry in entries], pixels])
        return hashlib.sha256(recipe.encode()).hexdigest()


def _draw(count: int, seed: int, stream: int) -> tuple[CorpusEntry, ...]:
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, stream], np.uint64)))
    sizes = _dealt(generator, count, [share for _, _, share in SIZES])
    storages = [STORAGE[row][0] for row in _dealt(generator, count, [share for _, share in STORAGE])]
    is_progressive = _dealt(generator, count, [1 - PROGRESSIVE, PROGRESSIVE])
    turns = _dealt(generator, count, [1 - ROTATED, ROTATED / 2, ROTATED / 2])
    cuts = []
    for size, turn, storage in zip(sizes, turns, storages, strict=True):
        width, height = SIZES[size][:2]
        cuts.append(_draw_cut(generator, (width, height) if turn else (height, width), storage))
    target_bytes = _target_bytes(generator, cuts, storages)
    return tuple(
        CorpusEntry(
            key=f"{index:07d}.jpg",
            label=index % NUM_CLASSES,
            photograph=name,
            window=window,
            size=size,
            storage=storages[index],
            progressive=bool(is_progressive[index]),
            orientation=(1, *TURNS)[turns[index]],
            target_bytes=int(target_bytes[index]),
            is_reduced=is_reduced,
        )
        for index, (name, window, size, is_reduced) in enumerate(cuts)
    )


def _dealt(generator: np.random.Generator, count: int, shares: Sequence[float]) -> NDArray[np.intp]:
    """Return rows of a table in random order, each as often as its share says, to within one."""
    evenly = (np.arange(count) + 0.5) / count
    rows = np.searchsorted(np.cumsum(shares)[:-1], evenly, side="right")
    return generator.permutation(rows)


Cut = tuple[str, tuple[int, int, int, int], tuple[int, int], bool]


def _draw_cut(generator: np.random.Generator, drawn: tuple[int, int], storage: Storage) -> Cut:
    names, (height, width) = _candidates(drawn, may_be_grey=storage == "grey")
    name = names[int(generator.integers(len(names)))]
    room_height, room_width = photographs.shape(name)
    largest = min(MAX_ZOOM, room_height / height, room_width / width)
    zoom = math.exp(generator.uniform(0, math.log(largest)))
    window_height, window_width = int(zoom * height), int(zoom * width)
    top = int(generator.integers(room_height - window_height, endpoint=True))
    left = int(generator.integers(room_width - window_width, endpoint=True))
    return name, (top, left, window_height, window_width), (height, width), (height, width) != drawn


@functools.cache
def _candidates(drawn: tuple[int, int], *, may_be_grey: bool) -> tuple[tuple[str, ...], tuple[int, int]]:
    """Return the photographs to cut a picture of `drawn` height and width from, and its size after all.

    The packaged ones that are large enough, else such wallpapers, else the one that allows the largest picture. A
    grey photograph gives grey pictures only: as a colour JPEG it would have empty colour planes, which decode faster.
    """
    packaged, wallpapers = (
        [name for name in names if may_be_grey or not photographs.is_grey(name)]
        for names in (photographs.photographs(), photographs.wallpapers())
    )
    for names in (packaged, wallpapers):
        fitting = tuple(name for name in names if _scale(name, drawn) >= 1)
        if fitting:
            return fitting, drawn
    largest = max(packaged + wallpapers, key=lambda name: _scale(name, drawn))
    scale = _scale(largest, drawn)
    return (largest,), (int(scale * drawn[0]), int(scale * drawn[1]))


def _scale(name: str, size: tuple[int, int]) -> float:
    height, width = photographs.shape(name)
    return min(height / size[0], width / size[1])


def _target_bytes(
    generator: np.random.Generator, cuts: Sequence[Cut], storages: Sequence[Storage]
) -> NDArray[np.float64]:
    """Deal the quantile table out by the bytes that each picture would have at one quality, with noise."""
    typical = [
        math.log(height * width * _density(name, storage))
        for (name, _, (height, width), _), storage in zip(cuts, storages, strict=True)
    ]
    order = np.argsort(typical + BYTES_SIGMA * generator.standard_normal(len(cuts)))
    rank = np.empty(len(cuts))
    rank[order] = (np.arange(len(cuts)) + 0.5) / len(cuts)
    quantiles, file_bytes = zip(*FILE_BYTES, strict=True)
    target_bytes: NDArray[np.float64] = np.interp(rank, np.array(quantiles), np.array(file_bytes))
    return target_bytes


@functools.cache
def _density(name: str, storage: Storage) -> float:
    """Return a photograph's bytes per pixel at the typical quality, measured on at most 1024x1024 at its middle."""
    height, width = (min(side, 1024) for side in photographs.shape(name))
    top, left = ((side - kept) // 2 for side, kept in zip(photographs.shape(name), (height, width), strict=True))
    picture = photographs.cut(name, (top, left, height, width), (height, width))
    return len(_encode(picture, storage, TYPICAL_QUALITY)) / (height * width)


def _encode(
    picture: Image.Image, storage: Storage, quality: int, *, progressive: bool = False, orientation: int = 1
) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = io.BytesIO()
    (picture.convert("L") if storage == "grey" else picture).save(
        stored,
        "JPEG",
        quality=quality,
        subsampling="4:2:0" if storage == "4:2:0" else "4:4:4",
        progressive=progressive,
        exif=exif if orientation != 1 else b"",
    )
    return stored.getvalue()
