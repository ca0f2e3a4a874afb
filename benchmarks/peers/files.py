"""What file readers need: a split's pictures as files, and warm ones."""

from __future__ import annotations

import os
from pathlib import Path

from datasets_tools.store import Split


def extract(split: Split, folder: Path) -> list[Path]:
    """Write a split's pictures as files, one class folder, and return their paths."""
    target = folder / "all"
    target.mkdir(parents=True, exist_ok=True)
    files = [target / f"{sample_id:08d}.jpg" for sample_id in range(len(split))]
    for sample_id, file in enumerate(files):
        file.write_bytes(split.encoded(sample_id).tobytes())
    return files


def page_in(path: Path) -> None:
    """Read a file once, so that no case pays for a cold disk."""
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        while file.read(1 << 24):
            pass
