"""`manifest.json`: what a store is, without opening its data. Frozen types, load and save.

It names no time, host, path or worker count: the same source and options give the same bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import MinLen
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from datasets_tools.digest import PATTERN, Digest, FileDigest
from datasets_tools.errors import StoreError, remedy_of_version
from datasets_tools.staging import write_whole
from datasets_tools.store.json_files import check_size, parse_json, read_bounded
from datasets_tools.wording import counted, rule

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 3
# Above a million class names or a quarter of a million quarantined pictures: what is larger is no manifest, and is not
# parsed, for which Python takes twenty times as much memory.
MAX_MANIFEST_BYTES = 1 << 26
# `Path` makes one slash of two.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
# Linux, limits.h: NAME_MAX.
_MAX_NAME_BYTES = 255


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def plain_name(name: str) -> str:
    """Return the name of a file in the store's folder as it is: a manifest may come from anywhere.

    Raises:
        ValueError: it would lead out of the folder, holds control characters, or is longer than names may be.
    """
    plain = name.isprintable() and not set(name) & {"/", "\\"} and name not in ("", ".", "..")
    if not plain or len(name.encode()) > _MAX_NAME_BYTES:
        shown = name if len(name) <= 80 else f"{name[:40]}...{name[-40:]}"
        raise ValueError(f"{shown!r} is no plain file name")
    return name


PlainName = Annotated[str, AfterValidator(plain_name)]


class FileRecord(_Frozen):
    """One file: its name in the store's folder, its size in bytes, its SHA-256 as `datasets_tools.digest` writes it."""

    name: PlainName
    size: NonNegativeInt
    sha256: Annotated[str, Field(pattern=PATTERN)]

    @classmethod
    def of(cls, name: str, data: bytes) -> FileRecord:
        """Return the record of a file by its content."""
        return cls(name=name, size=len(data), sha256=Digest(data).text())

    @classmethod
    def of_file(cls, path: Path) -> FileRecord:
        """Return the record of a file that is finished.

        Raises:
            OSError: it cannot be read.
        """
        with FileDigest(path) as digest:
            return cls(name=path.name, size=path.stat().st_size, sha256=digest.text())


class SourceRecord(_Frozen):
    """Where the pictures came from: the layout's name and what decided its content."""

    name: str
    options: dict[str, str | int | float | bool]


class PolicyRecord(_Frozen):
    """What was asked of the pictures: the fields of `pictures.Policy`, by their names there."""

    max_side: PositiveInt | None
    short_side: PositiveInt | None
    min_side: PositiveInt | None
    quality: PositiveInt
    subsampling: Literal["4:2:0", "4:4:4"]
    exif: Literal["ignore", "apply"]
    raw_share: Annotated[float, Field(ge=0, le=1)]
    transcode: bool
    check: bool
    repair: bool
    max_pixels: PositiveInt


class Quarantined(_Frozen):
    """A picture of the source that is not in the store, and why."""

    key: str
    reason: str


class ShardRecord(_Frozen):
    """One `.beton` file of a split and its index; the ids of its samples follow those of the shard before it."""

    beton: FileRecord
    index: FileRecord
    num_samples: NonNegativeInt


class Counts(_Frozen):
    """What became of the pictures of a split.

    Attributes:
        kept: the stored bytes are the source's.
        transcoded: JPEGs rewritten without loss, as baseline with restart markers.
        reencoded: pictures that went through a decoder, by what the source held (`jpeg`, `jpeg cmyk`, `png`, ...);
            kept, transcoded and these are all there are.
        resized, rotated, raw, repaired: how many were made smaller, turned as their EXIF orientation says, are stored
            as raw pixels, or were damaged.
    """

    kept: NonNegativeInt = 0
    transcoded: NonNegativeInt = 0
    reencoded: dict[str, PositiveInt] = {}
    resized: NonNegativeInt = 0
    rotated: NonNegativeInt = 0
    raw: NonNegativeInt = 0
    repaired: NonNegativeInt = 0

    @classmethod
    def total(cls, parts: Sequence[Counts]) -> Counts:
        """Return the sum of counts."""
        numbers = ("kept", "transcoded", "resized", "rotated", "raw", "repaired")
        reencoded = sum((Counter(part.reencoded) for part in parts), Counter[str]())
        sums = {name: sum(getattr(part, name) for part in parts) for name in numbers}
        return cls(**sums, reencoded=dict(sorted(reencoded.items())))


class SplitRecord(_Frozen):
    """One split.

    Attributes:
        shards: its files, in the order of sample ids; at least one.
        num_samples: how many pictures it has.
        class_counts: pictures per class, by label.
        max_height, max_width: in pixels; not necessarily of the same picture.
        max_bytes, mean_bytes: of the stored samples.
        counts: what became of the pictures.
        quarantined: pictures left out.
        label_sets: files of further labels, by name (`real`): a JSON list with each sample's list of right classes.
    """

    shards: Annotated[tuple[ShardRecord, ...], MinLen(1)]
    num_samples: NonNegativeInt
    class_counts: tuple[NonNegativeInt, ...]
    max_height: NonNegativeInt
    max_width: NonNegativeInt
    max_bytes: NonNegativeInt
    mean_bytes: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    counts: Counts
    quarantined: tuple[Quarantined, ...]
    label_sets: dict[PlainName, FileRecord] = {}

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """Every file of the split."""
        shards = (file for shard in self.shards for file in (shard.beton, shard.index))
        return (*shards, *self.label_sets.values())


class Manifest(_Frozen):
    """A store: its version, its origin, its classes and its splits."""

    format_version: int
    fastbot_version: str
    source: SourceRecord
    policy: PolicyRecord | None
    class_names: tuple[str, ...]
    splits: Annotated[dict[PlainName, SplitRecord], MinLen(1)]

    def save(self, folder: Path) -> None:
        """Write the manifest into `folder`, whole or not at all, and make it durable.

        Raises:
            StoreError: it would be larger than is read.
            OSError: it cannot be written.
        """
        data = (self.model_dump_json(indent=2) + "\n").encode()
        if len(data) > MAX_MANIFEST_BYTES:
            num_bad = sum(len(record.quarantined) for record in self.splits.values())
            raise StoreError(
                f"{folder / MANIFEST_NAME}: would have {len(data):,} bytes; at most {MAX_MANIFEST_BYTES:,} are read. "
                f"It names {counted(len(self.class_names), 'class', 'classes')} and {counted(num_bad, 'picture')} that "
                "were left out: have fewer."
            )
        write_whole(folder / MANIFEST_NAME, data)

    @staticmethod
    def load(folder: Path) -> Manifest:
        """Read the manifest of the store in `folder`.

        Raises:
            StoreError: there is none, it cannot be parsed, or it is of another version.
        """
        path = folder / MANIFEST_NAME
        return Manifest.parse(str(path), _read(path))

    @staticmethod
    def parse(location: str, data: bytes) -> Manifest:
        """Return the manifest that a file holds which is not here.

        Args:
            location: of the file, for messages.
            data: its bytes.

        Raises:
            StoreError: they are too many, cannot be parsed, or are of another version.
        """
        check_size(location, len(data), MAX_MANIFEST_BYTES)
        content = parse_json(location, data)
        if not isinstance(content, dict):
            raise StoreError(f"{location}: holds no JSON object. Convert the store again from its source.")
        return _validated(location, content)


def _validated(location: str, content: dict[str, object]) -> Manifest:
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        found = str(version) if isinstance(version, int) else "no integer"
        raise StoreError(
            f"{location}: is a store of another version: format_version is {found}, this fastbot reads "
            f"{FORMAT_VERSION}. {remedy_of_version(version, FORMAT_VERSION)}"
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        # Names in it may be anything: escaped, they can be printed.
        where = ascii(".".join(str(part) for part in first["loc"]))[1:-1][:200]
        raise StoreError(
            f"{location}: {where}: {rule(first['msg'])}. It was changed by hand or is damaged: "
            "convert the store again from its source."
        ) from error


def _read(path: Path) -> bytes:
    try:
        folder_exists, exists = path.parent.is_dir(), path.is_file()
    except OSError as error:
        raise StoreError(f"{path.parent}: cannot be read: {error.strerror}. Name a folder that can.") from error
    if not folder_exists and _URL.match(str(path)):
        raise StoreError(
            f"{path.parent}: is a URL, and a store is read from a local folder. Bring it here: "
            "`fastbot store fetch URL DIR`."
        )
    if path.parent.is_file():
        holds_manifest = path.parent.with_name(MANIFEST_NAME).is_file()
        named = path.parent.parent if holds_manifest else "the folder that `fastbot convert` wrote"
        raise StoreError(f"{path.parent}: is a file, and a store is a folder. Name {named}.")
    if not folder_exists:
        raise StoreError(f"{path.parent}: no such folder. Name the folder that `fastbot convert` wrote.")
    if not exists:
        raise StoreError(
            f"{path.parent}: is not a store: it holds no {MANIFEST_NAME}. Name the folder that `fastbot convert` wrote."
        )
    return read_bounded(path, MAX_MANIFEST_BYTES)
