"""`manifest.json`: what a store is, without opening its data. Frozen types, load and save.

It names no time, host, path or worker count: the same source and options give the same bytes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from datasets_tools.errors import StoreError

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(_Frozen):
    """One file of a split: its name in the store, its size in bytes, and its SHA-256 in hexadecimal."""

    name: str
    size: NonNegativeInt
    sha256: str


class SourceRecord(_Frozen):
    """Where the pictures came from: the layout's name and what decided its content."""

    name: str
    options: dict[str, str | int | float | bool]


class EncodingRecord(_Frozen):
    """What was asked of the pictures: longest side in pixels (None: as they were), quality where re-encoded."""

    max_side: PositiveInt | None
    quality: PositiveInt


class Quarantined(_Frozen):
    """A picture of the source that is not in the store, and why."""

    key: str
    reason: str


class SplitRecord(_Frozen):
    """One split.

    Attributes:
        beton, index: its files.
        num_samples: how many pictures it has.
        class_counts: pictures per class, by label.
        max_height, max_width: in pixels; not necessarily of the same picture.
        max_bytes, mean_bytes: of the stored JPEGs.
        kept: pictures whose bytes are those of the source.
        reencoded: pictures that were encoded anew, by what the source held (`jpeg`, `jpeg cmyk`, `png`, ...).
        resized: how many of those were made smaller.
        quarantined: pictures left out.
    """

    beton: FileRecord
    index: FileRecord
    num_samples: NonNegativeInt
    class_counts: tuple[NonNegativeInt, ...]
    max_height: NonNegativeInt
    max_width: NonNegativeInt
    max_bytes: NonNegativeInt
    mean_bytes: float
    kept: NonNegativeInt
    reencoded: dict[str, PositiveInt]
    resized: NonNegativeInt
    quarantined: tuple[Quarantined, ...]


class Manifest(_Frozen):
    """A store: its version, its origin, its classes and its splits."""

    format_version: int
    fastbot_version: str
    source: SourceRecord
    encoding: EncodingRecord
    class_names: tuple[str, ...]
    splits: dict[str, SplitRecord]

    def save(self, folder: Path) -> None:
        """Write the manifest into `folder` and make it durable.

        Raises:
            OSError: it cannot be written.
        """
        with (folder / MANIFEST_NAME).open("x", encoding="utf-8") as file:
            file.write(self.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())

    @staticmethod
    def load(folder: Path) -> Manifest:
        """Read the manifest of the store in `folder`.

        Raises:
            StoreError: there is none, it cannot be parsed, or it is of another version.
        """
        path = folder / MANIFEST_NAME
        content = _read_object(path)
        version = content.get("format_version")
        if version != FORMAT_VERSION:
            raise StoreError(
                f"{path}: is a store of another version: format_version is {version!r}, this fastbot reads "
                f"{FORMAT_VERSION}. Convert the store again with this fastbot."
            )
        try:
            return Manifest.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise StoreError(
                f"{path}: {where}: {first['msg']}. It was changed by hand or is damaged: "
                "convert the store again from its source."
            ) from error


def _read_object(path: Path) -> dict[str, object]:
    if not path.parent.is_dir():
        raise StoreError(f"{path.parent}: no such folder. Name the folder that `fastbot convert` wrote.")
    if not path.is_file():
        raise StoreError(
            f"{path.parent}: is not a store: it holds no {MANIFEST_NAME}. Name the folder that `fastbot convert` wrote."
        )
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be parsed: {error}. Convert the store again from its source.") from error
    if not isinstance(content, dict):
        raise StoreError(f"{path}: holds no JSON object. Convert the store again from its source.")
    return content
