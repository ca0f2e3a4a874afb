"""What a conversion is compared with: the check and the decoding of its pictures alone, `cp`, and FFCV's own writer.

Each function returns a callable that goes through all pictures once and returns how many there were.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from torchvision.datasets import ImageFolder

from benchmarks.peers.peer import Epoch

# Pictures a task: enough to make what a task costs disappear.
_TASK = 64


class Examiners:
    """Worker processes that hold pictures in memory, and do nothing but look at them. A context manager ends them.

    Args:
        pictures: the files.
        workers: processes.
    """

    def __init__(self, pictures: Sequence[Path], workers: int) -> None:
        # The same start method as the conversion's own workers.
        context = multiprocessing.get_context("forkserver")
        self._pool = ProcessPoolExecutor(workers, context, _Held.load, (pictures,))

    def __enter__(self) -> Examiners:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def epoch(self, look: Callable[[bytes], object], places: Sequence[int]) -> Epoch:
        """Return a callable that looks at some pictures.

        Args:
            look: called with each picture; a function of a module, as it goes to the workers by name.
            places: which pictures, each as often as it is named.
        """
        tasks = [(look, places[start : start + _TASK]) for start in range(0, len(places), _TASK)]
        return lambda: sum(self._pool.map(_Held.look, tasks))


class _Held:
    """What a worker keeps."""

    pictures: Sequence[bytes]

    @classmethod
    def load(cls, pictures: Sequence[Path]) -> None:
        cls.pictures = [picture.read_bytes() for picture in pictures]

    @classmethod
    def look(cls, task: tuple[Callable[[bytes], object], Sequence[int]]) -> int:
        look, places = task
        for place in places:
            look(cls.pictures[place])
        return len(places)


def copied(source: Path, target: Path, count: int) -> Epoch:
    """`cp -r`, followed by `sync`."""

    def epoch() -> int:
        subprocess.run(["cp", "-r", str(source), str(target)], check=True)
        subprocess.run(["sync"], check=True)
        return count

    return epoch


def ffcv_writer(source: Path, target: Path, max_resolution: int, quality: int, workers: int) -> Epoch:
    """FFCV: its `DatasetWriter` over torchvision's `ImageFolder`, as in FFCV's own script for ImageNet.

    Source: libffcv/ffcv-imagenet, `write_imagenet.py`, with `write_mode` jpg.
    """
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    def epoch() -> int:
        dataset = ImageFolder(str(source))
        image = RGBImageField(write_mode="jpg", max_resolution=max_resolution, jpeg_quality=quality)
        writer = DatasetWriter(str(target), {"image": image, "label": IntField()}, num_workers=workers)
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            writer.from_indexed_dataset(dataset, chunksize=100)
        return len(dataset)

    return epoch
