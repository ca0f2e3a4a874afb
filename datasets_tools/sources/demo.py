"""The demo data set: a few thousand JPEGs cut from photographs that are already installed, one class per photograph.

Training and validation pictures of a class come from two sides of one line through its photograph, so no pixel is
in both. Nothing is written or encoded here until a conversion's worker reads an entry.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal

import numpy as np

from datasets_tools import photographs
from datasets_tools.sources.base import EntryList, Options

SplitName = Literal["train", "val"]
Window = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Division:
    """How a photograph is divided by an upright line: validation on one side of it, training on the other.

    Attributes:
        line: where the line stands, as a share of the width.
        val_side: the side for validation.
        right: where the part on the right ends, as a share of the width.
    """

    line: float
    val_side: Literal["left", "right"]
    right: float = 1.0


# Chosen by looking: both parts must show what makes the class. Where that is one object (flower, face, pavilion),
# the line runs through its middle, and far parts without it (open water) are left out.
DIVISIONS: Mapping[str, Division] = MappingProxyType(
    {
        "brick": Division(0.6, "right"),
        "chelsea": Division(0.5, "right", right=0.92),
        "china": Division(0.32, "left", right=0.65),
        "coins": Division(0.5, "right"),
        "flower": Division(0.48, "left"),
        "gravel": Division(0.6, "right"),
        "hubble_deep_field": Division(0.6, "right"),
        "ihc": Division(0.6, "right"),
        "moon": Division(0.5, "right"),
        "motorcycle_left": Division(0.52, "right"),
        "retina": Division(0.6, "right"),
        "rocket": Division(0.4, "left"),
    }
)

# ImageNet's two most frequent sizes, (height, width). Regions too narrow for a landscape picture of a useful size
# give portrait ones only.
LANDSCAPE, PORTRAIT = (375, 500), (500, 375)
NARROW_PX = 300
# A window's side as a share of the largest window of its shape that fits the region.
ZOOM = (0.7, 1.0)
QUALITY = (80, 95)
# Shares of pictures stored in another way than most; the rest is baseline 4:2:0.
GREY, FULL_CHROMA, PROGRESSIVE = 0.01, 0.05, 0.05


@dataclass(frozen=True, slots=True)
class DemoEntry:
    """One picture of the demo: its bytes are a pure function of the fields (and of Pillow's JPEG encoder).

    Attributes:
        photograph: where it is cut from.
        label: its class.
        split, index: its place in the data set.
        seed: the data set's seed.
    """

    photograph: str
    label: int
    split: SplitName
    index: int
    seed: int

    @property
    def key(self) -> str:
        """Its name, as a file of an ImageFolder would be called."""
        return f"{self.photograph}/{self.index:05d}.jpg"

    def cut(self) -> tuple[Window, tuple[int, int]]:
        """Return its window (top, left, height, width) in the photograph, and its own height and width, in pixels."""
        return _draw_cut(self._generator(), region(self.photograph, self.split))

    def read(self) -> bytes:
        """Cut the picture, shrink it where the window is larger than it, and encode it as JPEG."""
        generator = self._generator()
        window, size = _draw_cut(generator, region(self.photograph, self.split))
        picture = photographs.cut(self.photograph, window, size)
        grey, full_chroma, progressive = generator.random(3) < (GREY, FULL_CHROMA, PROGRESSIVE)
        stored = io.BytesIO()
        (picture.convert("L") if grey else picture).save(
            stored,
            "JPEG",
            quality=int(generator.integers(*QUALITY, endpoint=True)),
            subsampling="4:4:4" if full_chroma else "4:2:0",
            progressive=bool(progressive),
        )
        return stored.getvalue()

    def _generator(self) -> np.random.Generator:
        # Streams with different counters are 2**128 draws apart, so no two pictures share a random number.
        key = np.array([self.seed, self.split == "val"], np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, self.index, 0]))


@dataclass(frozen=True)
class DemoSource:
    """The demo data set: 12 classes, in training and validation pictures of ImageNet-like sizes.

    A picture has 500x375 or 375x500 pixels where its side of the photograph is large enough, fewer where it is not:
    nothing is ever enlarged.

    Args:
        seed: decides every cut; 0 <= seed < 2**64.
        train_per_class: training pictures of each class.
        val_per_class: validation pictures of each class.
    """

    seed: int = 0
    train_per_class: int = 168
    val_per_class: int = 34

    @property
    def name(self) -> str:
        """The layout, as `fastbot convert` calls it."""
        return "demo"

    @property
    def options(self) -> Options:
        """What decides the pictures."""
        return {"seed": self.seed, "train_per_class": self.train_per_class, "val_per_class": self.val_per_class}

    @property
    def class_names(self) -> Sequence[str]:
        """The photographs, by label."""
        return tuple(DIVISIONS)

    @property
    def label_sets(self) -> Mapping[str, Mapping[str, Sequence[Sequence[int]]]]:
        """None: every picture shows one class."""
        return {}

    @property
    def notes(self) -> Sequence[str]:
        """None: nothing is unusual."""
        return ()

    @cached_property
    def splits(self) -> Mapping[str, EntryList[DemoEntry]]:
        """The entries of `train` and `val`, class by class.

        Raises:
            SourceError: scikit-image or scikit-learn is not installed.
        """
        photographs.photographs()  # Said now rather than once per picture from the workers.
        return {"train": self._entries("train", self.train_per_class), "val": self._entries("val", self.val_per_class)}

    def _entries(self, split: SplitName, per_class: int) -> EntryList[DemoEntry]:
        return EntryList(
            [
                DemoEntry(photograph, label, split, label * per_class + k, self.seed)
                for label, photograph in enumerate(self.class_names)
                for k in range(per_class)
            ]
        )


def region(photograph: str, split: SplitName) -> Window:
    """Return the part of a photograph that a split is cut from.

    Args:
        photograph: one of the demo's classes.
        split: which part.

    Returns:
        Top, left, height, width in pixels; the parts of the two splits lie on different sides of the line that
        `DIVISIONS` names.

    Raises:
        SourceError: scikit-image or scikit-learn is not installed.
    """
    height, width = photographs.shape(photograph)
    division = DIVISIONS[photograph]
    line, right = round(division.line * width), round(division.right * width)
    is_left = (split == "val") == (division.val_side == "left")
    return (0, 0, height, line) if is_left else (0, line, height, right - line)


def _draw_cut(generator: np.random.Generator, region: Window) -> tuple[Window, tuple[int, int]]:
    top, left, height, width = region
    is_landscape = generator.random() < 0.5 and width >= NARROW_PX
    nominal = LANDSCAPE if is_landscape else PORTRAIT
    scale = min(height / nominal[0], width / nominal[1]) * generator.uniform(*ZOOM)
    window_height, window_width = int(scale * nominal[0]), int(scale * nominal[1])
    shift_down = int(generator.integers(height - window_height, endpoint=True))
    shift_right = int(generator.integers(width - window_width, endpoint=True))
    size = min(window_height, nominal[0]), min(window_width, nominal[1])
    return (top + shift_down, left + shift_right, window_height, window_width), size
