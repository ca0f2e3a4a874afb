"""How large a store will be, from a few of its pictures."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets_tools.conversion.preparation import Preparation
from datasets_tools.errors import ConversionError
from datasets_tools.pictures import Picture
from datasets_tools.sources.base import Source
from datasets_tools.store import beton
from datasets_tools.store.index import RECORD
from datasets_tools.wording import counted

# Enough for a mean within some ten per cent on ImageNet, and done in a blink.
_NUM_SAMPLED = 64
_SURELY = 0.8
# The tables of a sample, in the .beton file and in the index, and its key.
_TABLE_BYTES = beton.METADATA_ROW.itemsize + beton.ALLOCATION.itemsize + RECORD.itemsize + 40


Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a store will take.

    Attributes:
        num_pictures: of all splits.
        mean_bytes: of the sampled pictures, as they will be stored.
        num_sampled: how many were looked at.
        num_bytes: of the whole store on a disk.
        num_hole_bytes: by which its files are longer than that: pages that are not full, which a disk need not store.
    """

    num_pictures: int
    mean_bytes: float
    num_sampled: int
    num_bytes: int
    num_hole_bytes: int = 0


def estimate(source: Source, preparation: Preparation, num_shards: int) -> Estimate:
    """Prepare a few pictures, evenly spread over all splits, and infer the size of the store.

    Args:
        source: its pictures.
        preparation: prepares them as they will be stored.
        num_shards: files per split; each begins and ends with a page that is not full.

    Raises:
        ConversionError: the source cannot be read, or a worker died.
    """
    num_pictures = sum(len(entries) for entries in source.splits.values())
    sizes = []
    for entries in source.splits.values():
        share = max(1, round(_NUM_SAMPLED * len(entries) / max(1, num_pictures)))
        for place in np.linspace(0, len(entries) - 1, min(share, len(entries)), dtype=np.int64).tolist():
            outcomes = preparation.outcomes(entries, place, place + 1)
            sizes += [len(outcome.data) for outcome in outcomes if isinstance(outcome, Picture)]
    mean_bytes = float(np.mean(sizes)) if sizes else 0.0
    num_bytes = round(num_pictures * (mean_bytes + _TABLE_BYTES))
    # A sample does not cross a page: on average half a sample's length is skipped at each page's end.
    page_size = beton.page_size_for(max(sizes, default=0))
    holes = round(num_pictures * mean_bytes * (mean_bytes / 2 / page_size))
    holes += sum(_hole_bytes(len(entries), num_shards) for entries in source.splits.values())
    return Estimate(num_pictures, mean_bytes, len(sizes), num_bytes, holes)


def _hole_bytes(num_pictures: int, num_shards: int) -> int:
    """Return what lies unused at the beginning and, on average, at the end of the files of a split."""
    num_files = max(1, min(num_shards, num_pictures))
    rows = beton.metadata_end(num_pictures // num_files)
    return num_files * (beton.align_up(rows, beton.MIN_PAGE_SIZE) - rows + beton.MIN_PAGE_SIZE // 2)


def check_space(expected: Estimate, folder: Path, share: float | None, say: Say) -> None:
    """Say how large a store will be, and refuse to begin what its disk cannot hold.

    Args:
        expected: of the whole store.
        folder: where it is built; what lies there already is part of it.
        share: of the store, how much lies there at once on its way to a URL; None where it all stays.
        say: called with a line for the user.

    Raises:
        ConversionError: there is not enough space.
    """
    present = sum(child.stat().st_blocks * 512 for child in folder.iterdir())
    free = shutil.disk_usage(folder).free
    needed = expected.num_bytes if share is None else round(share * expected.num_bytes)
    pictures = counted(expected.num_pictures, "picture")
    line = (
        f"{pictures} of {expected.mean_bytes / 1e3:,.1f} kB (mean of {expected.num_sampled} "
        f"sampled, as stored): about {_gigabytes(expected.num_bytes + expected.num_hole_bytes)}"
    )
    if share:
        line += f", {_gigabytes(needed)} of it here at once"
    # A few sampled pictures are a tenth off as often as not: only what surely does not fit is refused.
    if _SURELY * needed - present > free:
        place = "destination" if share is None else "--work-dir, cut the store into more --shards"
        raise ConversionError(
            f"{folder.parent}: not enough space: {line}, and {_gigabytes(free)} are free. Free space, choose another "
            f"{place}, or shrink the pictures with --max-side."
        )
    say(f"{line}; {_gigabytes(free)} are free")


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"
