"""`adopt`: stock FFCV files become a store where they lie: only indices and a manifest are written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from datasets_tools.errors import StoreError
from datasets_tools.exchange.stock_file import StockFile
from datasets_tools.staging import locked_folder
from datasets_tools.store import Split
from datasets_tools.store.index import Index, StoredFormat, write_index
from datasets_tools.store.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    Counts,
    FileRecord,
    Manifest,
    ShardRecord,
    SourceRecord,
    SplitRecord,
    plain_name,
)

# The beginnings of file names that say which split it is.
_SPLITS = {"train": "train", "val": "val", "test": "test"}
_SPLIT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

# Told how many bytes of the files were read, of how many.
Progress = Callable[[int, int], None]


def adopt(
    files: Sequence[Path | str],
    destination: Path,
    *,
    class_names: Sequence[str] | None,
    fastbot_version: str,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
) -> Manifest:
    """Make a store of FFCV files that something else wrote.

    Files of one split become its shards, in the order given. A file that does not lie in the destination gets a
    symbolic link there; the manifest's source says how many did (`linked`).

    Args:
        files: each a path, whose name begins with its split's (`train`, `val` or `test`), or `NAME=PATH`.
        destination: the store's folder: new, or one that holds the files.
        class_names: names by label; None names the classes `0`, `1`, ... up to the largest label.
        fastbot_version: goes into the manifest.
        workers: threads that check samples, at least 1; the caller's thread reads and hashes.
        progress: is told how many bytes of the files were read, of how many.

    Raises:
        StoreError: a file is missing, damaged, or of other fields; its split is not known; the destination is a store.
        ConversionError: another process is writing the destination.
    """
    splits = _by_split(files)
    if (destination / MANIFEST_NAME).exists():
        raise StoreError(f"{destination}: is a store already. Choose another destination, or remove its manifest.json.")
    stock = {name: [StockFile(path) for path in paths] for name, paths in splits.items()}
    all_files = [file for files_of_split in stock.values() for file in files_of_split]
    names = _class_names(all_files, class_names)
    try:
        _sweep(all_files, workers, progress)
        with _written(destination) as written:
            linked = _link([file.path for file in all_files], destination, written)
            records = {name: _split_record(part, destination, len(names), written) for name, part in stock.items()}
            manifest = Manifest(
                format_version=FORMAT_VERSION,
                fastbot_version=fastbot_version,
                source=SourceRecord(name="adopted", options={"linked": linked}),
                policy=None,
                class_names=tuple(names),
                splits=records,
            )
            for name, record in records.items():
                Split(destination, name, record)  # what would not open must not be published
            manifest.save(destination)
    except OSError as error:
        raise StoreError(f"{error.filename or destination}: {error.strerror or error}. Nothing was adopted.") from error
    return manifest


def _by_split(files: Sequence[Path | str]) -> dict[str, list[Path]]:
    splits: dict[str, list[Path]] = {}
    stems: set[str] = set()
    for file in files:
        name, path = _named(str(file))
        _check_names(path)
        if not path.exists():
            raise StoreError(f"{path}: no such file. Name FFCV files that are there.")
        name = name or _split_of(path)
        if path.stem in stems:
            raise StoreError(f"{path}: another file is called {path.stem} too. Rename one: names of samples begin so.")
        stems.add(path.stem)
        splits.setdefault(name, []).append(path)
    if not splits:
        raise StoreError("There is no file to adopt. Name one or more .beton files.")
    return splits


def _check_names(path: Path) -> None:
    """Refuse a file that a manifest cannot name, or whose index it cannot, before anything of it is read."""
    try:
        plain_name(path.name)
        plain_name(_index_name(path))
    except ValueError as error:
        raise StoreError(f"{path}: {error}. Rename the file.") from error


def _index_name(path: Path) -> str:
    return f"{path.stem}.index"


def _named(argument: str) -> tuple[str, Path]:
    """Return the split that an argument names, nothing where it names none, and the file's path."""
    name, equals, rest = argument.partition("=")
    if not equals or Path(argument).exists():
        return "", Path(argument)
    if _SPLIT_NAME.fullmatch(name):
        return name, Path(rest)
    if Path(rest).exists():
        raise StoreError(f"{argument}: {name!r} is no name of a split. Use letters, digits, '_', '-' and '.'.")
    return "", Path(argument)


def _split_of(path: Path) -> str:
    """Return the split that a file's name begins with."""
    for beginning, split in _SPLITS.items():
        if path.name.lower().startswith(beginning):
            return split
    raise StoreError(
        f"{path}: its name does not begin with {', '.join(_SPLITS)}. Say which split it is: NAME={path}, for example "
        f"train={path}"
    )


def _class_names(files: Sequence[StockFile], class_names: Sequence[str] | None) -> Sequence[str]:
    largest = max(files, key=lambda file: file.num_classes)
    if class_names is None:
        return [str(label) for label in range(largest.num_classes)]
    if len(class_names) < largest.num_classes:
        raise StoreError(
            f"{largest.path}: has the label {largest.num_classes - 1}, but {len(class_names)} class names were given. "
            "Give one for each label from 0."
        )
    return class_names


def _sweep(files: Sequence[StockFile], workers: int, progress: Progress) -> None:
    done, total = 0, sum(file.size for file in files)
    for file in files:
        for num_bytes in file.sweep(workers):
            done += num_bytes
            progress(done, total)


@contextmanager
def _written(destination: Path) -> Iterator[list[Path]]:
    """Keep other processes out of the destination, and remove what was written there if the block fails."""
    is_new = not destination.exists()
    written: list[Path] = []
    with locked_folder(destination):
        try:
            yield written
        except BaseException:
            for path in written:
                path.unlink(missing_ok=True)
            if is_new:
                with suppress(OSError):
                    destination.rmdir()
            raise


def _link(paths: Sequence[Path], destination: Path, written: list[Path]) -> int:
    """Make every file reachable in the destination by its name; return how many needed a link."""
    linked = 0
    for path in paths:
        place = destination / path.name
        if place.is_symlink() or place.exists():
            if not place.exists() or not place.samefile(path):
                raise StoreError(f"{place}: exists and is another file than {path}. Choose another destination.")
        else:
            place.symlink_to(path.resolve())
            written.append(place)
        linked += place.is_symlink()
    return linked


def _split_record(files: Sequence[StockFile], destination: Path, num_classes: int, written: list[Path]) -> SplitRecord:
    shards = tuple(_shard_record(file, destination / _index_name(file.path), written) for file in files)
    records = np.concatenate([file.records for file in files])
    return SplitRecord(
        shards=shards,
        num_samples=len(records),
        class_counts=tuple(np.bincount(records["label"], minlength=num_classes).tolist()),
        max_height=int(records["height"].max()),
        max_width=int(records["width"].max()),
        max_bytes=int(records["size"].max()),
        mean_bytes=float(records["size"].mean()),
        counts=Counts(kept=len(records), raw=int((records["stored_format"] == StoredFormat.RAW).sum())),
        quarantined=(),
    )


def _shard_record(file: StockFile, index: Path, written: list[Path]) -> ShardRecord:
    if index.exists():  # in a folder without a manifest: an adoption that was killed left it
        Index(index)  # unless it is something else, which is never overwritten
        index.unlink()
    written.append(index)
    write_index(index, file.records, file.keys, file.beton_crc32)
    return ShardRecord(beton=file.file_record, index=FileRecord.of_file(index), num_samples=len(file.records))
