"""What the loader benchmark reads besides a whole store: its pictures by size, as progressive JPEGs, and large ones."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.corpora.recipe import MAX_ZOOM
from datasets_tools import photographs
from datasets_tools.conversion.convert import ConvertOptions, convert
from datasets_tools.pictures import Policy
from datasets_tools.sources.base import EntryList, Options
from datasets_tools.store import Split, Store
from datasets_tools.store.index import StoredFormat
from fastbot import __version__
from fastbot.errors import RunError

# In kB. A bin reaches half-way, in logarithms, to its neighbours, and as far beyond the outermost.
SIZE_BINS = (50, 75, 110, 160)
# Pictures of a derived store; a bin that has fewer shows them again.
NUM_PICTURES = 1000
# Height and width of large pictures, of which there are so many different ones, of about 120 kB as web photographs are.
LARGE = 750, 1000
NUM_LARGE = 240
LARGE_QUALITY = 90


@dataclass(frozen=True, slots=True)
class Corpus:
    """One set of pictures as every case reads it.

    Attributes:
        label: goes behind the names of cases; empty for the store as it is.
        ours: what fastbot's backends read.
        originals: what the peers read: the same pictures, as they came.
    """

    label: str
    ours: Split
    originals: Split


def whole(split: Split) -> Corpus:
    """Return a split as it is.

    Raises:
        RunError: the stock loaders cannot read it.
    """
    num_raw = int((split.formats == StoredFormat.RAW).sum())
    if num_raw or len(split.shards) > 1:
        raise RunError(
            f"{split.path}: split {split.name} has {len(split.shards)} shards and {num_raw:,} raw pictures. Stock "
            "loaders read one .beton file, or JPEG files: give a store of JPEGs converted without --shards"
        )
    return Corpus("", split, split)


def by_size(split: Split, folder: Path) -> list[Corpus]:
    """Return a corpus for each of `SIZE_BINS`, as stores in `folder`.

    Raises:
        RunError: a bin has no picture; nothing is written then.
    """
    bins = size_bins(split.sizes)
    if empty := [kilobytes for kilobytes, ids in bins.items() if not len(ids)]:
        raise RunError(f"{split.path}: has no picture of about {empty[0]} kB: measure a larger corpus, or no --bins")
    return [_bin(split, kilobytes, ids, folder) for kilobytes, ids in bins.items()]


def _bin(split: Split, kilobytes: int, ids: NDArray[np.int64], folder: Path) -> Corpus:
    store = _written(_pictures(split, ids), folder / f"{kilobytes}", Policy(transcode=False))
    return Corpus(f"{kilobytes} kB", store, store)


def progressive(split: Split, folder: Path) -> Corpus:
    """Return a split's pictures as progressive JPEGs for the peers, and for us what a conversion makes of those."""
    ids = np.arange(min(len(split), NUM_PICTURES))
    pictures = [_as_progressive(picture) for picture in _pictures(split, ids)]
    originals = _written(pictures, folder / "originals", Policy(transcode=False))
    return Corpus("progressive", _written(pictures, folder / "converted", Policy()), originals)


def large(folder: Path) -> Corpus:
    """Return pictures of the size `LARGE`, 4:2:0, cut at random from Debian's wallpapers.

    Raises:
        RunError: the wallpapers are not installed.
    """
    height, width = LARGE
    zooms = {name: _zoom(name) for name in photographs.wallpapers() if not photographs.is_grey(name)}
    names = [name for name, zoom in zooms.items() if zoom >= 1]
    if not names:
        raise RunError(f"no photograph of {width} x {height} pixels is installed: apt-get install mate-backgrounds")
    generator = np.random.default_rng(0)
    pictures = []
    for number in range(NUM_LARGE):
        name = names[number % len(names)]
        zoom = math.exp(generator.uniform(0, math.log(zooms[name])))
        window = int(zoom * height), int(zoom * width)
        room = np.subtract(photographs.shape(name), window)
        top, left = generator.integers(room, endpoint=True).tolist()
        pictures.append(_encoded(photographs.cut(name, (top, left, *window), LARGE)))
    store = _written(pictures, folder / "large", Policy(transcode=False))
    return Corpus(f"{width}x{height}", store, store)


def size_bins(sizes: NDArray[np.uint64]) -> Mapping[int, NDArray[np.int64]]:
    """Return the ids of the samples of each of `SIZE_BINS`, by their bytes."""
    centres = np.log(np.array(SIZE_BINS) * 1e3)
    between = (centres[1:] + centres[:-1]) / 2
    edges = np.exp([2 * centres[0] - between[0], *between, 2 * centres[-1] - between[-1]])
    place = np.searchsorted(edges, sizes.astype(np.float64), side="right") - 1
    return {kilobytes: np.flatnonzero(place == number) for number, kilobytes in enumerate(SIZE_BINS)}


@dataclass(frozen=True, slots=True)
class _Entry:
    key: str
    label: int
    data: bytes

    def read(self) -> bytes:
        return self.data


@dataclass(frozen=True)
class _Pictures:
    """A source of pictures that are in memory."""

    splits: Mapping[str, EntryList[_Entry]]
    name: str = "loader benchmark"
    class_names: Sequence[str] = ("only",)
    notes: Sequence[str] = ()

    @property
    def options(self) -> Options:
        return {}

    @property
    def label_sets(self) -> Mapping[str, Mapping[str, Sequence[Sequence[int]]]]:
        return {}


def _pictures(split: Split, ids: NDArray[np.int64]) -> list[bytes]:
    return [split.encoded(sample_id).tobytes() for sample_id in ids.tolist()]


def _written(pictures: Sequence[bytes], folder: Path, policy: Policy) -> Split:
    """Write at least `NUM_PICTURES` samples as a store of their own, each picture equally often."""
    count = len(pictures) * math.ceil(NUM_PICTURES / len(pictures))
    entries = [_Entry(f"{k:07d}.jpg", 0, data) for k, data in enumerate(islice(cycle(pictures), count))]
    convert(
        _Pictures({"train": EntryList(entries)}), folder, ConvertOptions(__version__, policy=policy), lambda _: None
    )
    return Store(folder).split("train")


def _zoom(name: str) -> float:
    """Return how many times as high and wide as `LARGE` a window of a photograph can be, at most `MAX_ZOOM`."""
    return min(MAX_ZOOM, *(side / least for side, least in zip(photographs.shape(name), LARGE, strict=True)))


def _encoded(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=LARGE_QUALITY, subsampling="4:2:0")
    return buffer.getvalue()


def _as_progressive(data: bytes) -> bytes:
    """Encode a JPEG again, with its own quantization tables and sampling."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).save(buffer, "JPEG", quality="keep", subsampling="keep", progressive=True)
    return buffer.getvalue()
