"""Pictures made on the spot, and a source of any of them: importable, so that worker processes can read it."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from datasets_tools.errors import PictureError
from datasets_tools.sources.base import EntryList


def pixels(height: int, width: int, seed: int = 0) -> Image.Image:
    """A smooth RGB picture with a little noise: compresses like a photograph."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / (3 + k) + columns / (7 - k) + seed) for k in range(3)]
    noisy = 127 + 80 * np.stack(waves, axis=-1) + generator.normal(0, 8, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def encoded(picture: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(height: int = 48, width: int = 64, seed: int = 0) -> bytes:
    return encoded(pixels(height, width, seed), quality=90)


@dataclass(frozen=True)
class BytesEntry:
    key: str
    label: int
    data: bytes

    def read(self) -> bytes:
        return self.data


@dataclass(frozen=True)
class DyingEntry:
    """Ends the process that reads it, as the kernel's out-of-memory killer would."""

    key: str
    label: int

    def read(self) -> bytes:
        os._exit(9)


@dataclass(frozen=True)
class UnreadableEntry:
    key: str
    label: int

    def read(self) -> bytes:
        raise PictureError(self.key, "cannot be read: Permission denied")


@dataclass(frozen=True)
class GoneEntry:
    """What is left of a disk that was pulled out."""

    key: str
    label: int

    def read(self) -> bytes:
        raise FileNotFoundError(2, "No such file or directory", self.key)


class ListSource:
    """A source of entries that are there already."""

    name = "list"
    notes: Sequence[str] = ()

    def __init__(
        self,
        splits: Mapping[str, Sequence[Any]],
        class_names: Sequence[str] = ("cat", "dog"),
        options: Mapping[str, str | int | float | bool] | None = None,
        label_sets: Mapping[str, Mapping[str, Sequence[Sequence[int]]]] | None = None,
    ) -> None:
        self.splits = {name: EntryList(entries) for name, entries in splits.items()}
        self.class_names = class_names
        self.options = options or {}
        self.label_sets = label_sets or {}


def good_entries(split: str, count: int) -> list[BytesEntry]:
    """JPEGs of different sizes, labels in turn."""
    return [BytesEntry(f"{split}{k}.jpg", k % 2, jpeg(40 + 3 * (k % 20), 64 - k % 20, seed=k)) for k in range(count)]


def good_source(num_train: int = 6, num_val: int = 2) -> ListSource:
    return ListSource({"train": good_entries("t", num_train), "val": good_entries("v", num_val)})
