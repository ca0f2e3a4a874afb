"""How does a training scale with ranks, and how much of a step is the exchange of gradients?

Weak scaling: every rank has a batch of the same size. R ranks are compared with one rank that has as many cores as
each of them: on a CPU one rank alone would otherwise have all the cores that R ranks share, and efficiency would say
nothing. What is lost then is the exchange, and what ranks take from each other of memory bandwidth and, where there
are more ranks than cores, of the cores. A rank computes on a GPU of its own where there are GPUs.

With `--model` nothing is measured: a model of 64 to 4,096 GPUs is printed (`benchmarks.scaling_model`).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.corpora.identity import store_identity
from benchmarks.measure import Result, compared
from benchmarks.options import Device, JsonFile, Repeats
from benchmarks.processes import run_whole
from benchmarks.progress import progress
from benchmarks.publishing import publish
from benchmarks.rungs import scaling_projection, scaling_rank
from benchmarks.rungs.scaling_rank import Question
from benchmarks.rungs.training import place_settings, recipe_of, recipe_settings
from benchmarks.scaling_model import Network
from fastbot.distributed import pick_device
from fastbot.errors import RunError
from pipelines.cores import cores

RANKS = 1, 2, 4, 8
# A training of a few steps that is not over by then waits for something that does not come.
_LIMIT_S = 1800
_SHOWN_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class _Group:
    """Ranks that train together.

    Attributes:
        ranks: how many.
        cores_each: of each of them; 1 where there are more ranks than cores.
    """

    ranks: int
    cores_each: int

    @property
    def name(self) -> str:
        """What the case is called."""
        ranks, each = (f"{n} {word}{'s' * (n > 1)}" for n, word in ((self.ranks, "rank"), (self.cores_each, "core")))
        return f"{ranks}, {each} each"


@dataclass(frozen=True, slots=True)
class _Start:
    """What one start of a group came to: medians of its turns, as those have their process in common.

    Attributes:
        images_per_s, without_exchange: of all ranks, with the exchange of gradients and without.
        communication_share: of the time with it; each turn with it has the next without beside it.
    """

    images_per_s: float
    without_exchange: float
    communication_share: float

    @classmethod
    def of(cls, with_exchange: Sequence[float], without_exchange: Sequence[float]) -> _Start:
        """Return it of the rates of its turns."""
        turns = zip(with_exchange, without_exchange, strict=True)
        share = statistics.median(1 - both / alone for both, alone in turns)
        return cls(statistics.median(with_exchange), statistics.median(without_exchange), share)


def default_ranks(device: str) -> tuple[int, ...]:
    """Return those of `RANKS` that have a GPU each, or on a CPU a core each."""
    there = torch.cuda.device_count() if pick_device(device).type == "cuda" else cores()
    return tuple(ranks for ranks in RANKS if ranks <= there)


def run(question: Question, ranks: Sequence[int], repeats: int = 5) -> list[Result]:
    """Measure groups of ranks, each beside one rank with as many cores.

    Args:
        question: what is trained; the median of its turns is one sample.
        ranks: sizes of the groups.
        repeats: starts of each group, in turns with the others'.

    Raises:
        RunError: a group failed, or there are more ranks than GPUs.
    """
    if pick_device(question.device).type == "cuda" and max(ranks) > torch.cuda.device_count():
        raise RunError(
            f"--ranks is {max(ranks)}, and this machine has {torch.cuda.device_count()} GPUs: ranks need one each. "
            "Give fewer, or --device cpu"
        )
    groups = [_Group(number, max(1, cores() // number)) for number in dict.fromkeys(ranks)]
    alone = {group: _Group(1, group.cores_each) for group in groups}
    starts: dict[_Group, list[_Start]] = {group: [] for group in dict.fromkeys([*groups, *alone.values()])}
    with progress("scaling", repeats * len(starts)) as tell:
        for _ in range(repeats):
            for group, own in starts.items():
                tell(group.name)
                own.append(_Start.of(**_asked(group, question)))
    figures = {group.name: [start.images_per_s for start in own] for group, own in starts.items()}
    place = place_settings(question.backend, question.device)
    return [
        _described(
            compared("scaling", group.name, alone.get(group, group).name, figures, "images/s"), group, own, place
        )
        for group, own in starts.items()
    ]


def _described(result: Result, group: _Group, starts: Sequence[_Start], place: Mapping[str, str]) -> Result:
    """Return a result with its efficiency and what of its time is communication."""
    share = statistics.median(start.communication_share for start in starts) if group.ranks > 1 else 0.0
    details = {
        **place,
        "ranks": group.ranks,
        "threads": group.cores_each,
        "efficiency": result.ratio / group.ranks,
        "communication_share": share,
        "images_per_s_without_exchange": statistics.median(start.without_exchange for start in starts),
    }
    notes = f"efficiency {details['efficiency']:.0%}, communication {share:.0%}" if group.ranks > 1 else ""
    if group.ranks * group.cores_each > cores():
        notes += f"; {group.ranks} ranks share {cores()} cores: {cores() / group.ranks:.0%} is all that they can reach"
    return replace(result, details=details, notes=notes)


def _asked(group: _Group, question: Question) -> dict[str, list[float]]:
    """Let a group of ranks train, and return its rates."""
    with tempfile.TemporaryDirectory(prefix="fastbot-scaling-") as folder:
        file = Path(folder, "answer.json")
        # One rank alone needs no launcher, which takes as long to start as it does.
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={group.ranks}"]
        rank = ["-m", scaling_rank.__name__, str(file), json.dumps(asdict(question))]
        command = [sys.executable, *(launcher if group.ranks > 1 else []), *rank]
        some = ",".join(map(str, sorted(os.sched_getaffinity(0))[: group.ranks * group.cores_each]))
        with Path(folder, "log").open("w+b") as log:
            try:
                code = run_whole(["taskset", "--cpu-list", some, *command], _LIMIT_S, output=log)
            except subprocess.TimeoutExpired as error:
                raise RunError(
                    f"{group.name}: did not end within {_LIMIT_S} s. Give fewer --steps or --ranks"
                ) from error
            if code:
                log.seek(0)
                words = _last_words(log.read().decode(errors="replace"))
                raise RunError(f"{group.name}: {' '.join(command)} failed:\n{words}")
        found: dict[str, list[float]] = json.loads(file.read_text())
        return found


def _last_words(text: str) -> str:
    """Return what a rank said before the launcher's report, or the end of it."""
    return text.partition("torch/distributed/elastic")[0][-_SHOWN_CHARACTERS:] or text[-_SHOWN_CHARACTERS:]


def command(
    data: Annotated[Path | None, typer.Option("--data", help="A store; not needed with --model.")] = None,
    recipe: Annotated[str, typer.Option(help="A packaged recipe's name, or a .toml file.")] = "bot-baseline",
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[key.sub=value ...]")] = None,
    ranks: Annotated[
        list[int] | None, typer.Option(min=1, help="May be repeated; 1, 2, 4, 8 as far as there are GPUs or cores.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures on each rank.")] = 32,
    size: Annotated[int | None, typer.Option(min=1, help="Crop size in pixels; the recipe's, if not given.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps a turn.")] = 20,
    turns: Annotated[
        int, typer.Option(min=1, help="Turns of each start, with the exchange and without; their median counts.")
    ] = 1,
    backend: Annotated[str, typer.Option(help="Of those that `fastbot doctor` lists, or auto.")] = "auto",
    device: Device = "auto",
    repeats: Repeats = 5,
    model: Annotated[bool, typer.Option("--model", help="Print the model of 64 to 4,096 GPUs.")] = False,
    images_per_s: Annotated[
        float | None, typer.Option(min=1, help="--model: of one GPU at --batch-size; MLPerf's H100, if not given.")
    ] = None,
    step_file: Annotated[
        Path | None, typer.Option("--step", help="--model: rates from the JSON lines of `fastbot bench step`.")
    ] = None,
    case: Annotated[
        str | None, typer.Option(help="--model: which of --step, without its batch size; the fastest, if not given.")
    ] = None,
    gradient_bytes: Annotated[int, typer.Option(min=1, help="--model: of a gradient; fastbot's are 4.")] = 4,
    gpus_per_node: Annotated[int, typer.Option(min=1, help="--model")] = Network().gpus_per_node,
    node_gb_s: Annotated[
        float, typer.Option(min=0.001, help="--model: of a GPU in its machine.")
    ] = Network().node_gb_s,
    network_gb_s: Annotated[
        float, typer.Option(min=0.001, help="--model: of a GPU between machines.")
    ] = Network().network_gb_s,
    network_us: Annotated[
        float, typer.Option(min=0, help="--model: latency of a message between machines, in trees.")
    ] = Network().network_tree_us,
    json_file: JsonFile = None,
) -> None:
    """Measure a training on 1, 2, 4, 8 ranks; or print a model of it on 64 to 4,096 GPUs.

    Example: [bold]fastbot bench scaling --data corpus --ranks 1 --ranks 2 --batch-size 8 --size 64 --steps 5[/]
    """
    if model:
        network = Network(gpus_per_node, node_gb_s, network_gb_s, network_tree_us=network_us)
        rates = scaling_projection.Rates(images_per_s, step_file, case)
        scaling_projection.show(network, rates, batch_size, gradient_bytes, json_file)
        return
    if data is None:
        raise RunError("--data is missing: give a store, or --model for the model of many GPUs")
    changes = [*(overrides or []), *([f"data.crop_size={size}"] if size else [])]
    question = Question(str(data), recipe, changes, batch_size, backend, device, steps, turns)
    results = run(question, ranks or default_ranks(device), repeats)
    own = {**place_settings(backend, device), "steps": steps, "turns": turns, "batch_size": batch_size}
    settings = {**store_identity(data), **recipe_settings(recipe_of(recipe, changes)), **own}
    publish(results, settings, json_file, f"{recipe}, {batch_size} pictures a rank", device=pick_device(device))
