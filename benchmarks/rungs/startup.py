"""How long does a user wait from the start of a process to its first batch, and to its first step?

Every figure is of a process of its own, from its start on: Python, imports, opening the store, the pipeline, the
network, the step. The peer is a plain loop over torchvision's `DataLoader`, which decodes and crops as ours does; ours
augments and normalizes besides. Compilers (numba for our kernels; Triton and Inductor where the recipe compiles) keep
what they made: in the first round ours also starts once with their caches empty, and then with what that left.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.corpora.identity import store_identity
from benchmarks.measure import Result, compared
from benchmarks.options import Data, Device, JsonFile, Repeats
from benchmarks.peers.files import extract
from benchmarks.progress import progress
from benchmarks.publishing import publish
from benchmarks.rungs import fresh_process, startup_answers
from benchmarks.rungs.fresh_process import Answer
from benchmarks.rungs.training import place_settings, recipe_of, recipe_settings
from datasets_tools.store import Store
from fastbot.distributed import pick_device
from fastbot.errors import RunError
from fastbot.recipe import Recipe
from pipelines.backends import choose
from pipelines.cores import cores

_STOCK = "plain loop on torchvision's DataLoader"
_KEPT, _EMPTY = "fastbot", "fastbot, compilers' caches empty"
# The variables by which compilers are told where their caches are.
_CACHES = {
    "NUMBA_CACHE_DIR": "numba",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "XDG_CACHE_HOME": "cache",  # which form of DALI's decoder is the fastest, among others
}
_MOMENTS = {"first batch": "first_batch_s", "first step": "first_step_s"}


@dataclass(frozen=True, slots=True)
class Setting:
    """What is started.

    Attributes:
        data: a store's folder.
        recipe: a name or a file.
        overrides: of it.
        backend: a name.
        device: `cpu` or `cuda:N`.
    """

    data: Path
    recipe: str
    overrides: tuple[str, ...]
    backend: str
    device: str

    @property
    def whole(self) -> Recipe:
        """The recipe with its overrides."""
        return recipe_of(self.recipe, self.overrides)


def run(setting: Setting, repeats: int = 5) -> list[Result]:
    """Measure starts of fastbot and of a plain loop in turns.

    Args:
        setting: what is started.
        repeats: processes of each; one more, in the first round, meets empty caches.

    Raises:
        RunError: a process failed, or torchvision has no network as the recipe's.
    """
    network = _torchvision_name(setting.whole.model.name)
    with tempfile.TemporaryDirectory(prefix="fastbot-startup-") as folder:
        files = Path(folder, "files")
        caches = {variable: str(Path(folder, name)) for variable, name in _CACHES.items()}
        extract(Store(setting.data).split("train"), files)
        answers: dict[str, list[Answer]] = {_EMPTY: [], _KEPT: [], _STOCK: []}
        with progress("startup", 2 + 2 * repeats) as tell:
            tell(_STOCK)
            _stock(setting, files, network)  # so that files and libraries are in memory for all that count
            for name in [_EMPTY, *[_KEPT, _STOCK] * repeats]:
                tell(name)
                answers[name].append(_stock(setting, files, network) if name == _STOCK else _ours(setting, caches))
    return [result for moment in _MOMENTS for result in _results(moment, answers)]


def _results(moment: str, answers: Mapping[str, list[Answer]]) -> list[Result]:
    """Return when a moment came; the start with empty caches meets the first round of the peer."""
    seconds = {f"{moment}, {name}": [each[_MOMENTS[moment]] for each in found] for name, found in answers.items()}
    stock, results = f"{moment}, {_STOCK}", []
    for name, found in answers.items():
        case = f"{moment}, {name}"
        rounds = {key: seconds[key][: len(found)] for key in (case, stock)}
        details = {"parts_s": _medians(found), "compiling_s": found[0].get("compiling_s", 0.0)}
        notes = ", ".join(f"{part.replace('_', ' ')} {took:.2f}" for part, took in details["parts_s"].items())
        results.append(replace(compared("startup", case, stock, rounds, "s"), details=details, notes=notes))
    return results


def _medians(answers: list[Answer]) -> dict[str, float]:
    return {
        part: sorted(each["parts_s"][part] for each in answers)[len(answers) // 2] for part in answers[0]["parts_s"]
    }


def _ours(setting: Setting, caches: Mapping[str, str]) -> Answer:
    return fresh_process.ask(
        startup_answers.fastbot,
        str(setting.data),
        setting.recipe,
        setting.overrides,
        setting.backend,
        setting.device.partition(":")[0],
        environment=caches,
    )


def _stock(setting: Setting, files: Path, network: str) -> Answer:
    whole = setting.whole
    sizes, precision = (whole.data.global_batch_size, whole.data.crop_size), whole.precision
    number_format = precision.kind, precision.tf32
    return fresh_process.ask(
        startup_answers.stock, str(files), network, *sizes, cores(), setting.device, *number_format
    )


def _torchvision_name(model: str) -> str:
    """Return what torchvision calls a ResNet of ours: `resnet50` for `resnet50v1` and `resnet50d`."""
    found = re.match(r"(torchvision:)?(resnet(18|34|50|101|152))", model)
    if found is None:
        raise RunError(
            f"model.name is {model}: this benchmark stands beside torchvision's ResNets; choose a recipe of one, or "
            "add model.name=resnet50v1"
        )
    return found[2]


def command(
    data: Data,
    recipe: Annotated[
        str, typer.Option(help="A packaged recipe's name, or a .toml file; of a ResNet.")
    ] = "bot-baseline",
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[key.sub=value ...]")] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    size: Annotated[int, typer.Option(min=1, help="Crop size in pixels.")] = 224,
    backend: Annotated[str, typer.Option(help="Of those that `fastbot doctor` lists, or auto.")] = "auto",
    device: Device = "auto",
    repeats: Repeats = 5,
    json_file: JsonFile = None,
) -> None:
    """Measure the time from a process's start to its first batch and its first step.

    Example: [bold]fastbot bench startup --data corpus --size 64 --batch-size 16[/]
    """
    target = pick_device(device)
    changes = *(overrides or ()), f"data.global_batch_size={batch_size}", f"data.crop_size={size}"
    setting = Setting(data, recipe, changes, choose.choose(backend, target).name, str(target))
    results = run(setting, repeats)
    known = {**store_identity(data), **recipe_settings(setting.whole), **place_settings(backend, device)}
    title = f"from the start of a process on; {setting.whole.name} on {target}"
    publish(results, known, json_file, title, device=target)
