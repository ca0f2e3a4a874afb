"""Batches for a training loop that is not fastbot's: a store, a spec, and one iterable.

    with pipelines.open("imagenet", {"global_batch_size": 256, "crop_size": 224}) as batches:
        for epoch in range(90):
            for batch in batches.epoch(epoch):
                loss = loss_function(model(batch.images), batch.targets)

Batches are on the device, augmented, normalized and mixed; see `pipelines.batch.Batch`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import ValidationError
from torch import distributed

from datasets_tools.store import Store
from pipelines.backends.choose import AUTO, choose
from pipelines.bad_pictures import OnBadImage
from pipelines.batch import Batch
from pipelines.cores import cores
from pipelines.errors import PipelineError, SpecError
from pipelines.pipeline import Pipeline, Place, open_eval, open_train
from pipelines.spec import DataSpec
from pipelines.spec_errors import explain
from pipelines.whole_numbers import whole_number


@dataclass(slots=True)
class _Progress:
    """How far batches have been read.

    Attributes:
        place: epoch and step of the batch that comes next.
        next_pass: where the next iteration begins.
    """

    place: tuple[int, int]
    next_pass: tuple[int, int]


class Loader:
    """Batches of one split, epoch after epoch.

    Iterating gives the batches of the next epoch, beginning with epoch 0 or with what `load_state_dict` set. Leaving a
    loop half way leaves the rest of its epoch out; an iterator of which no batch was read leaves nothing out.

    Args:
        pipeline: what makes the batches; closed with this.
        store: what it reads.

    Attributes:
        num_classes, class_names: of the store.
    """

    def __init__(self, pipeline: Pipeline, store: Store) -> None:
        self._pipeline = pipeline
        self.num_classes = store.num_classes
        self.class_names = store.class_names
        self._progress = _Progress((0, 0), (0, 0))

    def __len__(self) -> int:
        """Return the number of batches in an epoch, the same on every rank."""
        return self._pipeline.steps_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of the next epoch."""
        return self.epoch(*self._progress.next_pass)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Return the batches of an epoch; a pure function of it, whatever was read before.

        Args:
            epoch: from 0.
            start_step: from 0.

        Raises:
            PipelineError: there is no such step, the loader is closed, or this process is a fork.
        """
        batches = self._pipeline.batches(epoch, start_step)
        # A new one: whoever still reads with an iterator from before, or from before a load, moves nothing here.
        self._progress = _Progress((int(epoch), int(start_step)), (int(epoch), int(start_step)))
        return _counted(batches, self._progress, len(self))

    def state_dict(self) -> dict[str, int]:
        """Return the place of the batch after the one that was yielded last: all that a resume needs.

        It is the same on every rank, and holds for another number of ranks.

        Source: the protocol of torchdata's `StatefulDataLoader`, which Lightning saves and restores.
        """
        epoch, step = self._progress.place
        return {"epoch": epoch, "step": step}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Let the next iteration begin where `state_dict` stood.

        Raises:
            PipelineError: the state is not what `state_dict` returns, or has a step that no epoch has here.
        """
        if not isinstance(state, Mapping) or state.keys() != {"epoch", "step"}:
            raise PipelineError(f"the state is {state!r}: give what `state_dict` returned, an epoch and a step")
        epoch, step = (whole_number(name, state[name], 0, PipelineError) for name in ("epoch", "step"))
        if step >= len(self):
            raise PipelineError(
                f"step is {step}, and an epoch has {len(self)} here: a state holds for the same store and "
                "global_batch_size; open the loader with those that it was saved with"
            )
        self._progress = _Progress((epoch, step), (epoch, step))

    @property
    def waited_s(self) -> float:
        """Seconds for which the loop was blocked because the next batch's pixels were not there."""
        return self._pipeline.waited_s

    @property
    def bad_pictures(self) -> list[int]:
        """Ids of the samples that could not be used so far."""
        return self._pipeline.bad_pictures.ids

    def close(self) -> None:
        """End all threads; may be called twice, and from any thread. In a fork it does nothing."""
        self._pipeline.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def _counted(batches: Iterator[Batch], progress: _Progress, num_steps: int) -> Iterator[Batch]:
    """Yield what `batches` does, and keep its place: the iteration counts from its first batch on."""
    epoch, start_step = progress.place
    for following, batch in enumerate(batches, start_step + 1):
        progress.place = (epoch, following) if following < num_steps else (epoch + 1, 0)
        progress.next_pass = (epoch + 1, 0)
        yield batch


def open(
    store: Store | Path | str,
    spec: DataSpec | Mapping[str, Any] | Path | str | None = None,
    *,
    split: str = "train",
    train: bool | None = None,
    backend: str = AUTO,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    num_threads: int | None = None,
    rank: int | None = None,
    world_size: int | None = None,
    seed: int = 0,
    on_bad_image: OnBadImage = "fail",
) -> Loader:
    """Open a split of a store as an iterable of batches.

    Args:
        store: a store that `fastbot convert` wrote, or its folder.
        spec: what happens to each picture: a `DataSpec`, its fields as a mapping, or the TOML file of a recipe, of
            which the table `data` is read. None for the defaults, which are those of Bag of Tricks.
        split: which one.
        train: augment and shuffle, or evaluate. By default a split named `train` is trained on.
        backend: what decodes; `fastbot doctor` lists those that can.
        device: where batches go; by default CUDA's current device where there is one.
        dtype: of the images.
        num_threads: decoding threads; by default this process's share of the cores it may use.
        rank, world_size: which share of each global batch; by default those of `torch.distributed`, or all of it.
        seed: of everything random, 0 to 2**64 - 1.
        on_bad_image: what becomes of a picture that cannot be used: `fail`, `replace` or `skip`.

    Raises:
        StoreError: the store is missing, damaged, or lacks the split.
        SpecError: the spec makes no sense, or not with this store or number of ranks; or another argument does not.
        BackendUnavailable: the backend cannot run here.
    """
    if train is not None and not isinstance(train, bool):
        raise SpecError(f"train is {train!r}: choose True or False, or None for what the split's name says")
    store = _store(store)
    target = _device(device)
    this_rank, num_ranks = _ranks(rank, world_size)
    place = Place(
        backend=choose(backend, target).name,
        device=target,
        dtype=dtype,
        num_threads=_share_of_cores() if num_threads is None else num_threads,
        rank=this_rank,
        world_size=num_ranks,
        on_bad_image=on_bad_image,
    )
    samples, data = store.split(split), data_spec(spec)
    if split == "train" if train is None else train:
        return Loader(open_train(samples, data, store.num_classes, place, seed=seed), store)
    return Loader(open_eval(samples, data, store.num_classes, place), store)


def _store(store: Store | Path | str) -> Store:
    if isinstance(store, Store):
        return store
    if not isinstance(store, Path | str):
        raise SpecError(f"store is {store!r}: give a Store, or the path of the folder that `fastbot convert` wrote")
    return Store(store)


def data_spec(spec: DataSpec | Mapping[str, Any] | Path | str | None) -> DataSpec:
    """Return a `DataSpec`, as `open` takes it.

    Raises:
        SpecError: the file cannot be read, or a field is unknown or has a wrong value.
    """
    if isinstance(spec, DataSpec):
        return spec
    name, fields = (f"{spec}, table data", _table(Path(spec))) if isinstance(spec, Path | str) else ("spec", spec)
    try:
        return DataSpec.model_validate({} if fields is None else fields)
    except ValidationError as error:
        raise SpecError(explain(error, DataSpec, name, "a field")) from error


def _table(file: Path) -> Mapping[str, Any]:
    try:
        recipe = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"{file} cannot be read as a recipe: {error}. Give the path of its TOML file") from error
    if "parent" in recipe:
        raise SpecError(
            f"{file} builds on another recipe, {recipe['parent']!r}, which is not read here. Give one that is written "
            f"out: `fastbot recipes {file} > whole.toml` makes it, and every run folder has one as recipe.toml"
        )
    if "data" not in recipe and (outside := recipe.keys() & DataSpec.model_fields.keys()):
        raise SpecError(
            f"{file} has {', '.join(sorted(outside))} outside of a table data: write the line [data] above them"
        )
    table: Mapping[str, Any] = recipe.get("data", {})
    return table


def _device(device: torch.device | str | None) -> torch.device:
    if device is None:
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    try:
        target = torch.device(device)
    except (RuntimeError, TypeError):
        raise _no_device(device) from None
    if target.type not in ("cpu", "cuda"):
        raise _no_device(device)
    if target.type == "cuda" and (target.index or 0) >= (count := torch.cuda.device_count()):
        raise SpecError(f"device is {device!r}: torch sees {count} CUDA devices; choose one of them, or cpu")
    return target


def _no_device(device: torch.device | str) -> SpecError:
    return SpecError(f"device is {device!r}: choose cpu or cuda, or cuda:N")


def _ranks(rank: int | None, world_size: int | None) -> tuple[int, int]:
    if rank is not None and world_size is not None:
        return rank, world_size
    if rank is not None or world_size is not None:
        raise SpecError(f"rank is {rank} and world_size is {world_size}: give both, or neither")
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _share_of_cores() -> int:
    """Return this process's share of the cores it may use; launchers say how many processes share a machine."""
    num_processes = os.environ.get("LOCAL_WORLD_SIZE", "1")
    if not num_processes.isdecimal() or int(num_processes) < 1:
        raise SpecError(
            f"LOCAL_WORLD_SIZE is {num_processes!r}: launchers set it to the number of processes of a machine, 1 or "
            "more; unset it, or give num_threads"
        )
    return max(1, cores() // int(num_processes))
