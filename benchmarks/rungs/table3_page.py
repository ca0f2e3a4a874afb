"""Table 3 of Bag of Tricks as the paper prints it, and ours beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.table import Table

from benchmarks.measure import Result
from benchmarks.units import figure

BATCH_SIZES = 256, 1024
IMAGENET_PICTURES = 1_281_167  # of ILSVRC 2012's training set: what the paper's epoch is


@dataclass(frozen=True, slots=True)
class Network:
    """A row of the paper's table.

    Attributes:
        recipe: fastbot's, of which number format and batch size are changed from cell to cell.
        before: minutes an epoch with FP32 and 256 pictures a batch, on 8 V100 GPUs.
        after: the same with FP16 and 1024.
        speed_up: as the paper prints it.
    """

    recipe: str
    before: float
    after: float
    speed_up: float


# Source: He et al., Bag of Tricks (arXiv 1812.01187), table 3.
NETWORKS: Mapping[str, Network] = {
    "resnet50": Network("bot-efficient", 13.3, 4.4, 3.0),
    "inception_v3": Network("bot-inceptionv3", 19.8, 8.0, 2.5),
    "mobilenet": Network("bot-mobilenet", 6.2, 3.7, 1.7),
}
_FULL = "FP32"  # begins the diagonal
_HALF = "FP16", "BF16"  # the first that was measured ends it
_PAPERS_GPUS = 8
# Means of ImageNet's training pictures. Source: those that `benchmarks.corpora.recipe` imitates.
_IMAGENET = {"mean_width": 469, "mean_height": 387, "mean_bytes": 110_000}
# Pictures reduced to 256 pixels on their shorter side have two thirds of the width and height.
_NEAR = 0.75


def title_of(model: str, number_format: str, batch_size: int) -> str:
    """Return a cell's name."""
    return f"{model}, {number_format}, batch {batch_size}"


def is_imagenet_like(store: Mapping[str, Any]) -> bool:
    """Return whether a store's pictures are the benchmark corpus, or on average about as large as ImageNet's.

    Args:
        store: what `store_identity` says of it.
    """
    return bool(store["corpus"]) or all(store[name] >= _NEAR * mean for name, mean in _IMAGENET.items())


def described(result: Result, details: Mapping[str, Any], *, reduced: bool) -> Result:
    """Return a result with its minutes per epoch, where they are of the paper's experiment, and what is to be known."""
    notes = [f"{'channels last' if details['channels_last'] else 'contiguous'}{', compiled' * details['compile']}"]
    if details["micro_batches"] > 1:
        notes.append(f"did not fit: in {details['micro_batches']} micro-batches")
    known = {**details, "reduced": reduced}
    if not reduced:
        minutes = [IMAGENET_PICTURES / rate / 60 for rate in (result.value, max(result.samples), min(result.samples))]
        known["minutes_per_epoch"] = dict(zip(("median", "least", "most"), minutes, strict=True))
        notes.append(f"{minutes[0]:.2f} min an epoch of ImageNet")
    return replace(result, details=known, notes="; ".join(notes))


def headline(reduced: bool) -> str:
    """Return what stands over the table."""
    if reduced:
        return (
            "Table 3 in a reduced form: another device, other pictures or other batches than the paper's. Its ratios "
            "are of this machine at these sizes, and nothing here can be compared with the paper's minutes"
        )
    return "Table 3: minutes for an epoch of ImageNet, projected from training end to end; FP32 is without TF32"


def page(results: Sequence[Result], batch_sizes: tuple[int, int], *, reduced: bool) -> Table:
    """Return the cells of each network by number format and batch size, and the diagonal beside the paper's.

    Args:
        results: of `table3.run`.
        batch_sizes: the small and the large one.
        reduced: whether they are of another experiment than the paper's: then cells are images/s, and the paper's
            figures are left out.
    """
    by_cell = {result.case: result for result in results}
    formats = list(dict.fromkeys(str(result.details["format"]) for result in results))
    beside = [] if reduced else ["paper, 8 V100"]
    table = Table(
        *("network", "batch", *formats, "speed-up of the diagonal", *beside),
        title=headline(reduced),
        caption=_batches(int(results[0].details["ranks"])),
    )
    for model in dict.fromkeys(str(result.details["network"]) for result in results):
        speed_up = _diagonal(by_cell, model, formats, batch_sizes)
        for number, batch_size in enumerate(batch_sizes):
            cells = [_cell(by_cell[title_of(model, name, batch_size)], reduced) for name in formats]
            paper = [] if reduced else [_paper(NETWORKS[model], number)]
            table.add_row(model, str(batch_size), *cells, speed_up if number else "", *paper)
    return table


def _batches(ranks: int) -> str:
    """Return whose batches are how large."""
    small, large = BATCH_SIZES
    return (
        f"The paper's batches of {small} and {large} are those of {_PAPERS_GPUS} GPUs together: "
        f"{small // _PAPERS_GPUS} and {large // _PAPERS_GPUS} on each. Ours are those of "
        f"{f'{ranks} ranks together' if ranks > 1 else 'one'}"
    )


def _cell(result: Result, reduced: bool) -> str:
    noisy = " noisy" if result.is_noisy else ""
    parts = result.details["micro_batches"]
    divided = f", in {parts} parts" if parts > 1 else ""
    if reduced:
        return f"{figure(result.value)}/s ±{result.spread / 2:.0%}{noisy} (x{result.ratio:.2f}){divided}"
    minutes = result.details["minutes_per_epoch"]
    return f"{minutes['median']:.2f} min ({minutes['least']:.2f}-{minutes['most']:.2f}){noisy}{divided}"


def _diagonal(by_cell: Mapping[str, Result], model: str, formats: Sequence[str], batch_sizes: tuple[int, int]) -> str:
    half = next((name for name in _HALF if name in formats), None)
    if half is None or formats[0] != _FULL:
        return f"none: it leads from {_FULL}, the first format, to {' or '.join(_HALF)}"
    end = by_cell[title_of(model, half, batch_sizes[1])]
    return f"{end.ratio:.2f} (to {half}, {batch_sizes[1]})"


def _paper(network: Network, row: int) -> str:
    if row == 0:
        return f"FP32: {network.before} min"
    return f"FP16: {network.after} min, speed-up {network.speed_up}"
