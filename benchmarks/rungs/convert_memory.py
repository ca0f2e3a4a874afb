"""How much memory does a conversion take? A process of its own for every answer, without PyTorch in it."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

from datasets_tools.conversion.convert import ConvertOptions, convert
from datasets_tools.conversion.progress import Progress
from datasets_tools.sources.folder import FolderSource
from fastbot import __version__


def peak_bytes(source: Path, target: Path, workers: int) -> int:
    """Convert a folder in a new process, and return the peak of its memory.

    Args:
        source: in the layout of `FolderSource`.
        target: the store; must not exist.
        workers: of the conversion.

    Returns:
        The sum of `VmHWM`, the largest resident set, of the converting process and its workers, as Linux counts it:
        pages that they share count in each.
    """
    command = [sys.executable, "-m", __name__, str(source), str(target), str(workers)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _converted(source: str, target: str, workers: int) -> int:
    peaks: dict[int, int] = {}

    def look(progress: Progress) -> None:
        if progress.stage == "finishing":  # the workers have done their last picture, and are still there
            peaks.update({child.pid: _peak(child.pid) for child in multiprocessing.active_children() if child.pid})

    convert(FolderSource(source), target, ConvertOptions(__version__, workers=workers), look)
    return sum(peaks.values()) + _peak(os.getpid())


def _peak(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


if __name__ == "__main__":
    print(_converted(sys.argv[1], sys.argv[2], int(sys.argv[3])))
