"""A store's pictures as other people's tools read them: a tree of class folders, or WebDataset's tar files.

JPEGs leave byte for byte as they are stored; raw pixels become PNG. Equal stores give equal files: nothing depends on
time, host or user.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from PIL import Image

from datasets_tools.exchange.class_names import wordnet_id
from datasets_tools.space import check_space
from datasets_tools.staging import atomic_folder
from datasets_tools.store import Split, Store
from datasets_tools.store.index import StoredFormat
from datasets_tools.wording import counted

Layout = Literal["folder", "webdataset"]
# Called with the split's name, its pictures done, and all its pictures.
Progress = Callable[[str, int, int], None]

# About a gigabyte of ImageNet's pictures.
SHARD_SIZE = 10_000
CLASSES_NAME = "classes.txt"
# ext4 and most others allow 255 bytes; the rest is for a number and an extension.
_MAX_NAME_BYTES = 200
_EXTENSIONS: Mapping[int, str] = {StoredFormat.JPEG: ".jpg", StoredFormat.RAW: ".png"}
_SPELLINGS = {".jpg": (".jpg", ".jpeg"), ".png": (".png",)}
_PICTURE_EXTENSION = re.compile(r"\.(jpe?g|png|webp|bmp|tiff?|ppm|pgm|gif)$", re.IGNORECASE)
# What leads out of a folder, ends a line, or no file system takes: separators and control characters.
_UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\u2028\u2029]")


def export(
    source: Path, destination: Path, layout: Layout, progress: Progress, *, shard_size: int = SHARD_SIZE
) -> tuple[str, ...]:
    """Write the pictures of a store as files.

    `folder` is torchvision's `ImageFolder`, `destination/<split>/<class>/<file>`: classes by WordNet id where all have
    one, by name else; files by the last part of their keys. `webdataset` is `destination/<split>-000000.tar` and so on,
    in each for every picture its file, `.cls` (the label) and `.json` (key, class, and lists of further labels where
    there are any), named by the sample's id. Both have `classes.txt`: the class names by label, one a line.

    Args:
        source: the store.
        destination: must not exist, or be an empty folder; it is there whole or not at all.
        layout: which of the two.
        progress: called as the pictures pass.
        shard_size: pictures in a tar file.

    Returns:
        What this layout cannot say of this store; one line each, for the user.

    Raises:
        StoreError: the source is no whole store; of a damaged sample, `DamagedSampleError`.
        ConversionError: the destination is taken, or there is not enough space.
        OSError: something cannot be written.

    Source: torchvision `datasets.ImageFolder`; webdataset's format, "The WebDataset Format Specification", version 0.
    """
    store = Store(source, verify="always")
    write = _write_folders if layout == "folder" else partial(_write_tars, shard_size=shard_size)
    check_space(destination, sum(int(split.sizes.sum()) for split in store.splits.values()))
    with atomic_folder(destination) as folder:
        for split in store.splits.values():
            write(split, folder, store.class_names, progress)
        lines = (" ".join(name.splitlines()) for name in store.class_names)
        (folder / CLASSES_NAME).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        os.sync()  # at once: to flush a million small files one by one would take an hour
    return tuple(_folder_notes(store)) if layout == "folder" else ()


def folder_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """Return the folder of each class: its WordNet id where all have one, else its name made fit for a file system.

    Args:
        class_names: by label.

    Returns:
        Different names, in any letter case; of two classes whose names become equal, the second gets its label added.
    """
    ids = [found for name in class_names if (found := wordnet_id(name))]
    wanted = ids if len(set(ids)) == len(class_names) else [_safe(name) for name in class_names]
    taken: dict[str, str] = {}
    for label, name in enumerate(wanted):
        free = next(other for other in _alternatives(name, label) if other.casefold() not in taken)
        taken[free.casefold()] = free
    return tuple(taken.values())


def _write_folders(split: Split, folder: Path, class_names: Sequence[str], progress: Progress) -> None:
    folders = [folder / split.name / name for name in folder_names(class_names)]
    for label in np.unique(split.labels).tolist():
        folders[label].mkdir(parents=True)
    for sample_id, label in enumerate(split.labels.tolist()):
        stem, extension = _file_name(split.key(sample_id), split.formats[sample_id])
        with _new_file(folders[label], stem, extension, sample_id) as file:
            file.write(_picture(split, sample_id))
        progress(split.name, sample_id + 1, len(split))


def _write_tars(split: Split, folder: Path, class_names: Sequence[str], progress: Progress, *, shard_size: int) -> None:
    label_sets = {name: split.label_lists(name) for name in split.record.label_sets}
    for number, start in enumerate(range(0, len(split), shard_size)):
        path = folder / f"{split.name}-{number:06d}.tar"
        with tarfile.open(path, "x", format=tarfile.USTAR_FORMAT) as tar:
            for sample_id in range(start, min(start + shard_size, len(split))):
                label = int(split.labels[sample_id])
                facts: dict[str, Any] = {"key": split.key(sample_id), "class": class_names[label]}
                if label_sets:
                    facts["label_sets"] = {name: lists[sample_id] for name, lists in label_sets.items()}
                name = f"{sample_id:08d}"
                _add(tar, name + _EXTENSIONS[split.formats[sample_id]], _picture(split, sample_id))
                _add(tar, f"{name}.cls", str(label).encode())
                _add(tar, f"{name}.json", json.dumps(facts).encode())
                progress(split.name, sample_id + 1, len(split))


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Append a file of no time and no owner."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _picture(split: Split, sample_id: int) -> bytes:
    """Return a sample as a file: its JPEG, or its pixels as PNG."""
    data = split.encoded(sample_id)
    if split.formats[sample_id] == StoredFormat.JPEG:
        return data.tobytes()
    file = io.BytesIO()
    pixels = data.reshape(int(split.heights[sample_id]), int(split.widths[sample_id]), 3)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _file_name(key: str, stored_format: int) -> tuple[str, str]:
    """Return the stem and the extension of a sample's file; an extension that says JPEG already stays as it is."""
    extension = _EXTENSIONS[stored_format]
    last = key.rsplit("/", 1)[-1]
    found = _PICTURE_EXTENSION.search(last)
    if not found:
        return _safe(last), extension
    is_right = found[0].lower() in _SPELLINGS[extension]
    return _safe(last[: found.start()]), found[0] if is_right else extension


def _new_file(folder: Path, stem: str, extension: str, sample_id: int) -> BinaryIO:
    """Create a file; where its name is taken, the sample's id is added."""
    for name in _alternatives(stem, sample_id):
        with suppress(FileExistsError):
            return (folder / f"{name}{extension}").open("xb")
    raise AssertionError("alternatives never end")


def _alternatives(name: str, number: int) -> Iterator[str]:
    """Yield a name, then with its number, then with more and more numbers."""
    yield name
    yield f"{name}-{number}"
    yield from (f"{name}-{number}-{k}" for k in count(2))


def _safe(name: str) -> str:
    """Return a name that is one visible file or folder on any file system."""
    plain = _UNSAFE.sub("_", name).encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
    return plain.lstrip(". ").rstrip(". ") or "_"


def _folder_notes(store: Store) -> Iterator[str]:
    names = folder_names(store.class_names)
    if list(names) != sorted(names):
        yield f"ImageFolder numbers classes by their sorted names; the labels of this store are those of {CLASSES_NAME}"
    for split in store.splits.values():
        num_absent = split.record.class_counts.count(0)
        if num_absent:
            absent = counted(num_absent, "class has", "classes have")
            yield f"{split.name}: {absent} no pictures and no folder, and ImageFolder skips what has none"
        for name in split.record.label_sets:
            yield f"{split.name}: the labels {name!r} have no place in folders and are left out"
