"""What file readers need: a split's pictures as files, and warm ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from datasets_tools.store import Split
from datasets_tools.store.index import StoredFormat
from fastbot.errors import RunError


def extract(split: Split, folder: Path) -> list[Path]:
    """Write a split's pictures as files, one class folder, and return their paths.

    Raises:
        RunError: it has raw pictures, of which no file of a JPEG can be made.
    """
    if num_raw := int((split.formats == StoredFormat.RAW).sum()):
        raise RunError(f"{split.path}: split {split.name} has {num_raw:,} raw pictures. Give a store of JPEGs")
    target = folder / "all"
    target.mkdir(parents=True, exist_ok=True)
    files = [target / f"{sample_id:08d}.jpg" for sample_id in range(len(split))]
    for sample_id, file in enumerate(files):
        file.write_bytes(split.encoded(sample_id).tobytes())
    return files


def linked(files: Sequence[Path], folder: Path, times: int) -> list[Path]:
    """Link files into one class folder under so many names each, and return their paths."""
    target = folder / "all"
    target.mkdir(parents=True)
    links = [target / f"{turn:04d}-{file.name}" for turn in range(times) for file in files]
    for number, link in enumerate(links):
        link.hardlink_to(files[number % len(files)])
    return links


def page_in(path: Path) -> None:
    """Read a file once, so that no case pays for a cold disk."""
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        while file.read(1 << 24):
            pass
