"""The rungs of the ladder: which commands, at which sizes, and how long each may take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

STORE = "{data}"


class Profile(StrEnum):
    """At which sizes the ladder runs."""

    quick = "quick"
    full = "full"
    gpu = "gpu"


@dataclass(frozen=True, slots=True)
class Rung:
    """One command of the ladder.

    Attributes:
        command: its name and its arguments; `{data}` stands for the store.
        limit_s: it is ended after so many seconds; later, where there is time that no other rung needs.
        name: of its files, where the command's does not tell it apart.
        needs: a module without which it is left out.
        cores: how many it may use; 0 for all.
        gpus: without so many it is left out.
    """

    command: str
    limit_s: int
    name: str = ""
    needs: str = ""
    cores: int = 0
    gpus: int = 0

    @property
    def title(self) -> str:
        """What it is called on the screen and on disk."""
        return self.name or self.command.split()[0]

    @property
    def needs_store(self) -> bool:
        """Whether it reads a store."""
        return STORE in self.command.split()


# Small models at small sizes, so that two cores climb all of it in ten minutes: structure and ratios, not rates. The
# limits, the corpus's 30 s among them, sum to that.
_SMALL_STEP = "--size 64 --batch-size 16"
_FEW_STEPS = "--size 64 --batch-size 8 --steps 2 --repeats 2 --turns 1"
_SMALL_MODEL = "model.name=resnet18v1 precision.kind=fp32"
_QUICK = (
    Rung(f"decode --data {STORE} --threads 1 --count 48 --seconds 0.1", 35),
    Rung(f"loader --data {STORE} --size 160 --batch-size 16", 80),
    Rung("augment --batch-size 32 --size 160 --seconds 0.05", 50),
    Rung("plan --samples 65536 --seconds 0.1", 20),
    Rung(f"step --model resnet50 --precision fp32 --precision bf16 {_SMALL_STEP} --seconds 0.5", 65),
    Rung("table5 --size 64 --batch-size 8 --seconds 0.5", 55),
    Rung(f"train --data {STORE} --recipe bot-efficient {_SMALL_STEP} --steps 4 {_SMALL_MODEL}", 50),
    Rung(f"table3 --data {STORE} --size 32 --batch-sizes 4 16 --steps 2 --models mobilenet", 50),
    Rung(f"scaling --data {STORE} --ranks 1 --ranks 2 {_FEW_STEPS} {_SMALL_MODEL}", 80),
    Rung(f"startup --data {STORE} --size 64 --batch-size 8 --repeats 2 {_SMALL_MODEL}", 55),
    Rung(f"memory --data {STORE} --size 64 --batch-size 128 --store-size 1000000 --batches 5 --until 50", 30),
)
_FULL = (
    Rung(f"decode --data {STORE} --threads 1", 600),
    Rung(f"loader --data {STORE}", 900),
    Rung(
        f"loader --data {STORE} --bins --progressive --large --peers torchvision --peers dali --peers ffcv",
        1800,
        "loader_sizes",
    ),
    Rung("augment --threads 1", 900),
    Rung("plan", 300),
    Rung(f"delivery --data {STORE}", 900),
    Rung(f"convert --data {STORE} --count 2000", 1200),
    Rung("step --model resnet50 --precision fp32 --precision bf16 --batch-size 16 --size 128", 900),
    Rung("table5 --size 128 --batch-size 16", 900),
    Rung(f"train --data {STORE} --recipe bot-efficient --size 128 --batch-size 32 --steps 4 precision.kind=fp32", 900),
    Rung(f"table3 --data {STORE} --size 64 --batch-sizes 8 32 --steps 2", 1500),
    Rung(f"scaling --data {STORE} --ranks 1 --ranks 2 --size 96 --batch-size 16 --steps 5", 600),
    Rung("scaling --model", 60, "scaling_model"),
    Rung(f"startup --data {STORE}", 600),
    Rung(f"memory --data {STORE} --size 64", 600),
)
# In the order of what is wanted most: the time may be over before the last. The limits are estimates, none of them
# measured, for an H100 that trains ResNet-50 in fp16 with 2,800 pictures a second: a turn of `step` is 7 steps of
# 0.37 s, of which 6 rounds and 4 loops make a minute; compilation takes another, imports 20 s.
_TRAIN = f"train --data {STORE} --recipe bot-efficient --batch-size 1024 --steps 4 --repeats 3"
_LOADER = f"loader --data {STORE} --batch-size 32 --repeats 3 --peers torchvision --peers dali --peers ffcv"
# The first call, of 5.5 minutes; a second one, of 9, goes on, and what is left takes a third.
_GPU_FIRST = (
    # The variant b of ResNet-50 is torchvision's and timm's own, so that their loops train their own networks.
    Rung("step --model resnet50b --precision fp16 --batch-size 1024 --compile --seconds 0.2 --repeats 4", 140),
    Rung(_TRAIN, 55),
    # 15 s of trials, 7 of first steps, 3 rounds of 14 s: four steps before each turn, two in it, a pipeline reopened.
    Rung(
        f"table3 --data {STORE} --models resnet50 --formats FP32 --formats FP16 --no-compile --steps 2 --seconds 0.5 "
        "--repeats 2",
        110,
    ),
)
_GPU_THEN = (
    Rung("augment-gpu", 30),
    Rung(_LOADER, 70),
    Rung("table5 --batch-size 256 --seconds 0.2", 60),
    Rung("step --model resnet50 --precision fp16 --batch-size 1024 --no-compile --seconds 0.2", 75, "step_v1"),
    Rung(
        "step --model resnet50b --precision tf32 --precision bf16 --no-compile --batch-size 256 --seconds 0.2",
        65,
        "step_precisions",
    ),
    Rung(f"{_TRAIN} --backend turbo", 55, "train_turbo"),
    # DALI shall need no more than 4 cores beside a GPU: it gets no more.
    Rung(_LOADER, 70, "loader_4cores", needs="nvidia.dali", cores=4),
    Rung(f"startup --data {STORE} --repeats 2", 65),
    Rung(f"decode --data {STORE} --repeats 3 --seconds 0.2", 30),
)
_GPU_LAST = (
    Rung(f"delivery --data {STORE} --batch-size 256 --repeats 1 --backend turbo", 35, "delivery_turbo"),
    Rung(f"delivery --data {STORE} --batch-size 256 --repeats 1 --backend dali", 35, "delivery_dali", "nvidia.dali"),
    Rung(f"memory --data {STORE} --batch-size 128 --store-size 1000000 --until 500", 60),
    Rung(f"scaling --data {STORE}", 90, gpus=2),
)
RUNGS: Mapping[Profile, Sequence[Rung]] = {
    Profile.quick: _QUICK,
    Profile.full: _FULL,
    Profile.gpu: (*_GPU_FIRST, *_GPU_THEN, *_GPU_LAST),
}
PICTURES: Mapping[Profile, int] = {Profile.quick: 240, Profile.full: 1000, Profile.gpu: 3000}
CORPUS_S: Mapping[Profile, int] = {Profile.quick: 30, Profile.full: 600, Profile.gpu: 20}
MINUTES: Mapping[Profile, float] = {Profile.quick: 10.0, Profile.full: 240.0, Profile.gpu: 5.5}
