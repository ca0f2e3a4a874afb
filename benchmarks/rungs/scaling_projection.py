"""The model of a training on 64 to 4,096 GPUs, printed with what it assumes, beside what others have published."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console

from benchmarks import lines
from benchmarks.measure import Result, compared
from benchmarks.mlperf_points import GRADIENT_BYTES, MANY_NODES, ONE_NODE
from benchmarks.publishing import publish
from benchmarks.rungs.step import OURS
from benchmarks.scaling_model import Bucket, Compute, Network, Step, buckets_of, fitted, layers_of, simulate
from fastbot.errors import RunError
from fastbot.models.registry import build_model

GPUS = 64, 128, 256, 512, 1024, 2048, 4096
_NETWORK = "resnet50"
_MODEL, _SIZE, _NUM_CLASSES = f"{_NETWORK}v1", 224, 1000


@dataclass(frozen=True, slots=True)
class Rates:
    """Where the arithmetic of one GPU comes from; MLPerf's published figures, if nowhere else.

    Attributes:
        images_per_s: of one GPU, with the batch that is asked about.
        file: JSON lines of `fastbot bench step`, of one batch size or several.
        case: which of its cases, without the batch size; the fastest, if None.
    """

    images_per_s: float | None = None
    file: Path | None = None
    case: str | None = None


def buckets(bytes_each: int) -> list[Bucket]:
    """Return the buckets of ResNet-50's gradients."""
    with torch.device("meta"):
        model = build_model(_MODEL, _NUM_CLASSES, "default", False)
    return buckets_of(layers_of(model, _SIZE), bytes_each)


def published() -> tuple[Compute, Sequence[tuple[str, float, float]]]:
    """Return the arithmetic that one machine of MLPerf's submissions shows, and what follows for those of many.

    Returns:
        The arithmetic; and of each submission of many machines its name, the seconds of its step as predicted from one
        machine's, and as logged.
    """
    network, exchanged = Network(), buckets(GRADIENT_BYTES)
    compute = fitted([point.measured for point in ONE_NODE], exchanged, network)
    predicted = [
        simulate(point.gpus, point.batch_size // point.gpus, compute, exchanged, network).seconds
        for point in MANY_NODES
    ]
    return compute, [(point.source, own, point.step_s) for point, own in zip(MANY_NODES, predicted, strict=True)]


def compute_of(rates: Rates, batch_size: int) -> tuple[Compute, str]:
    """Return the arithmetic of one GPU, and in words where it is from.

    Raises:
        RunError: the file has no such case, or no rates of a step.
    """
    if rates.images_per_s is not None:
        return Compute(0.0, 1 / rates.images_per_s), f"{rates.images_per_s:,.0f} images/s a GPU at batch {batch_size}"
    if rates.file is not None:
        return _from_lines(rates.file, rates.case)
    return published()[0], "MLPerf's H100 of NVIDIA's submissions in MXNet, not fastbot's"


def _from_lines(file: Path, case: str | None) -> tuple[Compute, str]:
    steps = _steps(file)
    if not steps or (case is not None and case not in steps):
        there = f"it has {'; '.join(steps)}" if steps else f"it has no step of {OURS} on {_NETWORK}"
        raise RunError(
            f"{file}: has no case {case or 'to go by'}: {there}. Give one of them with --case, or a file that "
            "`fastbot bench step --model resnet50 --json FILE` wrote"
        )
    name = case or max(steps, key=lambda each: max(batch / seconds for batch, seconds in steps[each].items()))
    points = steps[name]
    largest = max(points)
    alone = Compute(0.0, points[largest] / largest)
    if len(points) == 1:
        return alone, f"{name} in {file.name}, at batch {largest} alone: no fixed part is known"
    compute = fitted([(1, batch, seconds) for batch, seconds in points.items()], [], Network())
    batches = ", ".join(map(str, sorted(points)))
    if compute.fixed_s < 0:
        return alone, f"{name} in {file.name}, at batch {largest}: of {batches} no fixed part can be told"
    return compute, f"{name} in {file.name}, at batches {batches}"


def _steps(file: Path) -> dict[str, dict[int, float]]:
    """Return the seconds of fastbot's own steps of ResNet-50, by case without its batch size, and by batch size."""
    samples: dict[str, dict[int, set[float]]] = {}
    for line in lines.load(file):
        result, details = line.result, line.result.details
        is_ours = result.benchmark == "step" and result.case.startswith(f"{OURS}, ")
        if not is_ours or not str(details["model"]).startswith(_NETWORK):
            continue
        batch_size = int(details["batch_size"])
        name = result.case.replace(f"{batch_size} x {details['size']} px", f"{details['size']} px")
        # A case has a row, with the same samples, for each of its peers; and more where a file was appended to.
        samples.setdefault(name, {}).setdefault(batch_size, set()).add(result.value)
    return {
        name: {batch: batch / statistics.median(rates) for batch, rates in by_batch.items()}
        for name, by_batch in samples.items()
    }


def projected(compute: Compute, network: Network, batch_size: int, bytes_each: int) -> list[Result]:
    """Return the model's rates, as results whose peer is one GPU.

    Args:
        compute: of one GPU.
        network: what connects them.
        batch_size: pictures on each.
        bytes_each: of a gradient.
    """
    exchanged = buckets(bytes_each)
    steps = [simulate(gpus, batch_size, compute, exchanged, network) for gpus in (1, *GPUS)]
    figures = {_name(step): [step.images_per_s] for step in steps}
    first = _name(steps[0])
    return [_described(compared("scaling-model", _name(step), first, figures, "images/s"), step) for step in steps]


def _name(step: Step) -> str:
    return f"model: {step.gpus:,} GPU{'s' * (step.gpus > 1)}, {step.batch_size} pictures each"


def _described(result: Result, step: Step) -> Result:
    details = {
        "simulated": True,
        "gpus": step.gpus,
        "efficiency": step.efficiency,
        "communication_share": step.communication_share,
        "step_ms": 1e3 * step.seconds,
        "exposed_ms": 1e3 * step.exposed_s,
        "exchange_ms": 1e3 * step.exchange.seconds,
        "algorithm": step.exchange.algorithm,
        "bottleneck": step.bottleneck,
    }
    notes = (
        f"simulated; step {details['step_ms']:.2f} ms, of which {details['exposed_ms']:.2f} exchange left over; "
        f"efficiency {step.efficiency:.1%}; most is {step.bottleneck}"
    )
    return Result("scaling-model", result.case, result.peer, result.unit, result.samples, result.ratios, notes, details)


def show(network: Network, rates: Rates, batch_size: int, bytes_each: int, json_file: Path | None) -> None:
    """Print the model's table, what it assumes, and how near it comes to what has been published."""
    compute, source = compute_of(rates, batch_size)
    results = projected(compute, network, batch_size, bytes_each)
    settings = {
        "simulated": True,
        "model": _MODEL,
        "size": _SIZE,
        "batch_size": batch_size,
        "gradient_bytes": bytes_each,
        "network": asdict(network),
        "compute": asdict(compute),
        "source": source,
    }
    publish(results, settings, json_file, f"simulated, not measured: {_MODEL} by {source}", device="cpu")
    assumed = ", ".join(f"{name} {value:g}" for name, value in asdict(network).items())
    said = [
        f"Assumed: {assumed}; {bytes_each} bytes a gradient",
        f"Arithmetic: {1e3 * compute.fixed_s:.2f} ms a step and {1e6 * compute.per_image_s:.1f} us a picture",
        "Checked: one machine's figures of MLPerf, through the same model, against those of many machines:",
    ]
    for name, own, logged in published()[1]:
        said.append(
            f"  {name}: {1e3 * own:.2f} ms a step predicted, {1e3 * logged:.2f} logged ({own / logged - 1:+.1%})"
        )
    Console(highlight=False, soft_wrap=True).print("\n".join(said))
