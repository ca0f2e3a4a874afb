"""One WebDataset shard: its split by its name, its samples by the names of their files, and their labels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from datasets_tools.errors import SourceError
from datasets_tools.sources.naming import MAX_DIGITS, split_name, whole_number
from datasets_tools.sources.picture_files import is_picture_name
from datasets_tools.sources.tar import Member, TarArchive
from datasets_tools.wording import counted

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "ppm")
LABEL_EXTENSIONS = ("cls", "json")
_LABEL_FIELDS = ("label", "cls", "class", "target")
# A label is a few bytes; a JSON object may hold a caption and boxes besides.
_MAX_LABEL_SIZE = 1 << 20
# webdataset's own expression, but for names that begin with a dot.
_SAMPLE_FILE = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)")
_SPLIT_WORDS = frozenset({"train", "val", "test"})
_WORD = re.compile(r"[a-z]+")

Label = int | str


class Sample(NamedTuple):
    """A picture in a shard: its key, its label as written, and its first byte and size in the shard."""

    key: str
    label: Label
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Samples:
    """What a shard holds: samples in its order, and notes of what was passed over."""

    rows: Sequence[Sample]
    notes: Sequence[str]


def splits_of_shards(paths: Sequence[str]) -> dict[str, list[str]]:
    """Sort shards by the split that a word in their names says; all are `train` where none has such a word.

    Args:
        paths: of the shards, in one folder.

    Raises:
        SourceError: a name has two such words, or only some names have one.
    """
    by_split: dict[str, list[str]] = {}
    for path in paths:
        stem = path.rpartition("/")[2].removesuffix(".tar").lower()
        found = {split_name(word) for word in _WORD.findall(stem)} & _SPLIT_WORDS
        if len(found) > 1:
            raise SourceError(f"{path}: the name says {' and '.join(sorted(found))}. Rename it, one split a shard.")
        by_split.setdefault(found.pop() if found else "", []).append(path)
    if "" in by_split and len(by_split) > 1:
        raise SourceError(
            f"{by_split[''][0]}: the name says no split (train, val or test), others in its folder do. "
            "Rename it, or put the shards of each split into a folder of its name."
        )
    return {split or "train": group for split, group in by_split.items()}


def list_shard(path: str) -> Samples:
    """List a shard, and read its labels.

    Args:
        path: the tar file, a path or URL.

    Raises:
        SourceError: it is damaged, or a sample lacks its picture or its label.
    """
    archive = TarArchive(path)
    groups = _Groups(archive)
    rows = [_sample(archive, key, fields) for key, fields in groups]
    count = counted(groups.num_others, "file that belongs to no picture is", "files that belong to no picture are")
    others = (f"{path}: {count} left out",)
    return Samples(rows, (*archive.notes, *(others if groups.num_others else ())))


class _Groups:
    """The files of each sample, by extension; those that lie side by side belong together.

    Files that are no sample's (a README.txt, a description of the shard) are counted and passed over: the webdataset
    package would make samples without a picture of them.
    """

    def __init__(self, archive: TarArchive) -> None:
        self._archive = archive
        self.num_others = 0

    def __iter__(self) -> Iterator[tuple[str, Mapping[str, Member]]]:
        for key, fields in self._all():
            if _is_sample(fields):
                yield key, fields
            else:
                self.num_others += len(fields)

    def _all(self) -> Iterator[tuple[str, Mapping[str, Member]]]:
        seen: set[str] = set()
        key, fields = "", dict[str, Member]()
        for member in self._archive:
            match = _SAMPLE_FILE.fullmatch(member.name)
            if match is None:
                self.num_others += 1
                continue
            if match[1] != key:
                if fields:
                    yield key, fields
                key, fields = match[1], {}
                self._check_new(key, seen)
            if fields.setdefault(match[2].lower(), member) is not member:
                raise SourceError(f"{self._archive.name}: {key}: has two files .{match[2].lower()}. Pack it again.")
        if fields:
            yield key, fields

    def _check_new(self, key: str, seen: set[str]) -> None:
        if key in seen:
            raise SourceError(
                f"{self._archive.name}: {key}: comes twice, or its files do not lie side by side. Pack it again, "
                "sorted by name."
            )
        seen.add(key)


def _is_sample(fields: Mapping[str, Member]) -> bool:
    """Return whether files are meant as a sample: among them is a picture, of whatever format, or a class."""
    return any(extension == "cls" or is_picture_name(f".{extension}") for extension in fields)


def _sample(archive: TarArchive, key: str, fields: Mapping[str, Member]) -> Sample:
    images = [extension for extension in IMAGE_EXTENSIONS if extension in fields]
    if len(images) != 1:
        raise SourceError(
            f"{archive.name}: {key}: has {len(images)} pictures, among its files {_few(fields)}; exactly one of "
            f".{', .'.join(IMAGE_EXTENSIONS)} is allowed. Pack the shard again."
        )
    image = fields[images[0]]
    return Sample(key, _label(archive, key, fields), image.start, image.size)


def _label(archive: TarArchive, key: str, fields: Mapping[str, Member]) -> Label:
    extension = next((extension for extension in LABEL_EXTENSIONS if extension in fields), None)
    if extension is None:
        raise SourceError(
            f"{archive.name}: {key}: has no label, among its files {_few(fields)}; .cls or .json is needed. "
            "Pack the shard again."
        )
    member = fields[extension]
    if member.size > _MAX_LABEL_SIZE:
        raise SourceError(f"{archive.name}: {member.name}: a label of {member.size:,} bytes. Pack the shard again.")
    data = archive.read(member)
    label = _parsed_number(data) if extension == "cls" else _parsed_json(data)
    if label is None:
        number = f"a whole number of at most {MAX_DIGITS} digits, counted from 0"
        fields_allowed = f"an object with {' or '.join(_LABEL_FIELDS)}"
        allowed = number if extension == "cls" else f"a label, or {fields_allowed}: a class's name, or {number}"
        raise SourceError(f"{archive.name}: {member.name}: {data[:40]!r} is no label; allowed is {allowed}.")
    return label


def _parsed_number(data: bytes) -> int | None:
    return whole_number(data.decode("ascii", "replace").strip())


def _parsed_json(data: bytes) -> Label | None:
    """Return a label: a number or a class's name, alone or in an object."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if isinstance(content, dict):
        content = next((content[name] for name in _LABEL_FIELDS if name in content), None)
    if isinstance(content, str) and content:
        return content
    return content if type(content) is int and abs(content) < 10**MAX_DIGITS else None


def _few(fields: Mapping[str, Member]) -> str:
    return ", ".join(member.name for member in list(fields.values())[:4])
