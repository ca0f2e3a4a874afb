from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from batches import random_batch
from torch import nn

from fastbot import pretrained, teachers
from fastbot.build import model_on
from fastbot.checkpoint import Conditions, Identity
from fastbot.downloads import Download
from fastbot.errors import CheckpointError, ModelError, RecipeError
from fastbot.recipe import Recipe
from fastbot.runs import RunFolder
from fastbot.specs import Duration, ModelSpec, TeacherSpec
from fastbot.teachers import load_teacher, weights_digest
from pipelines.spec import BOT_MEAN, BOT_STD, DataSpec

CPU = torch.device("cpu")
CLASSES = ("ant", "bee", "cat")
OTHER_MEAN, OTHER_STD = (100.0, 110.0, 120.0), (50.0, 55.0, 60.0)
RECIPE = Recipe(
    name="teacher",
    about="a small network with batch norm",
    epochs=Duration(value=1),
    model=ModelSpec(name="torchvision:shufflenet_v2_x0_5", init="default"),
    data=DataSpec(mean=OTHER_MEAN, std=OTHER_STD),
)
IMAGES = random_batch(num_classes=3).images


def trained(seed: int) -> nn.Module:
    """Return a network whose batch norm has seen something."""
    torch.manual_seed(seed)
    network = model_on(RECIPE, len(CLASSES), CPU).train()
    with torch.no_grad():
        network(2 * IMAGES + 1)
    return network.eval()


def save(run: RunFolder, step: int, network: nn.Module, *, best: bool, average: nn.Module | None = None) -> Path:
    conditions = Conditions(versions={}, num_threads=1, world_size=1, device="cpu", backend="synthetic")
    identity = Identity("", "", RECIPE.resolved().as_dict(), CLASSES, conditions)
    weights = None if average is None else average.state_dict()
    return run.checkpoints.save(step, network, {"step": step}, identity, best=best, average=weights)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose best checkpoint is step 1, with seed 1, and whose last is step 2, with seed 2."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "teacher")
    folder.create(RECIPE, (), resume=False)
    save(folder, 1, trained(1), best=True)
    save(folder, 2, trained(2), best=False)
    return folder.path


def load(teacher: object, data: DataSpec = RECIPE.data, classes: tuple[str, ...] = CLASSES, **options: Any) -> Any:
    spec = TeacherSpec(teacher=str(teacher), **options)
    return load_teacher(spec, classes, data, CPU, student_precision="fp32")


@pytest.mark.parametrize(
    ("checkpoint", "seed"),
    [("", 1), ("checkpoints/best", 1), ("checkpoints/last", 2), ("checkpoints/step-00000002", 2)],
)
def test_a_run_teaches_by_its_best_checkpoint_or_the_one_that_is_named(checkpoint: str, seed: int, run: Path) -> None:
    teacher, identity = load(run / checkpoint)
    with torch.no_grad():
        torch.testing.assert_close(teacher(IMAGES), trained(seed)(IMAGES), rtol=0, atol=0)
    assert identity.teacher == str(run / checkpoint)
    assert identity.weights == str(run / "checkpoints" / f"step-{seed:08d}")
    assert identity.sha256 == weights_digest(trained(seed).state_dict())


def test_a_checkpoint_may_be_named_from_beside_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run / "checkpoints")
    assert load("last")[1].weights == str(run / "checkpoints" / "step-00000002")


def test_an_average_of_weights_teaches_where_there_is_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(RECIPE, (), resume=False)
    save(folder, 1, trained(1), best=True, average=trained(2))
    teacher, _ = load(folder.path)
    with torch.no_grad():
        torch.testing.assert_close(teacher(IMAGES), trained(2)(IMAGES), rtol=0, atol=0)


def test_it_gets_images_as_it_was_trained_with(run: Path) -> None:
    pixels = torch.randint(256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0)).double()

    def normalized(mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
        mean_of, std_of = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (mean, std))
        return ((pixels - mean_of) / std_of).float()

    teacher, _ = load(run, DataSpec())  # a student with the numbers of Bag of Tricks
    with torch.no_grad():
        expected = trained(1)(normalized(OTHER_MEAN, OTHER_STD))
    torch.testing.assert_close(teacher(normalized(BOT_MEAN, BOT_STD)), expected, rtol=1e-4, atol=1e-5)


def test_it_is_frozen_and_stays_so(run: Path) -> None:
    teacher, _ = load(run)
    before = copy.deepcopy(teacher.state_dict())
    teacher.train()
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher(IMAGES).requires_grad
    torch.testing.assert_close(teacher.state_dict(), before, rtol=0, atol=0)
    assert teacher.network.conv1[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_a_teacher_changes_nothing_of_what_the_student_draws(run: Path) -> None:
    state = torch.get_rng_state()
    load(run)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("precision", "students", "dtype"),
    [
        ("student", "fp32", torch.float32),
        ("student", "bf16", torch.bfloat16),
        ("fp32", "bf16", torch.float32),
        ("bf16", "fp32", torch.bfloat16),
        ("fp16", "bf16", torch.float16),
    ],
)
def test_its_precision_is_the_recipes(precision: Any, students: Any, dtype: torch.dtype, run: Path) -> None:
    spec = TeacherSpec(teacher=str(run), precision=precision)
    teacher, _ = load_teacher(spec, CLASSES, RECIPE.data, CPU, students)
    assert teacher.network.conv1[0].weight.dtype == dtype


def test_the_digest_is_that_of_the_weights_alone() -> None:
    weights = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3), "c": torch.ones(2, dtype=torch.bfloat16)}
    same = {name: weights[name].clone() for name in reversed(weights)}
    same["a"] = weights["a"].t().contiguous().t()  # laid out otherwise
    assert weights_digest(same) == weights_digest(weights)
    others = [
        {**weights, "b": torch.tensor(4)},
        {**weights, "a": weights["a"].view(3, 2)},
        {**weights, "c": torch.ones(2, dtype=torch.float16)},
        {"a": weights["a"], "b": weights["b"], "d": weights["c"]},
    ]
    assert len({weights_digest(each) for each in [weights, *others]}) == 5


def test_other_classes_are_refused(run: Path) -> None:
    with pytest.raises(RecipeError, match=r"teacher .*teacher has 3 classes and the store has 2\. Give"):
        load(run, classes=("ant", "bee"))
    with pytest.raises(RecipeError, match=r"class 1 of teacher .* is 'bee', that of the store is 'wasp'"):
        load(run, classes=("ant", "wasp", "cat"))


def test_a_teacher_that_is_not_there_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    missing = tmp_path / "resnet152d"
    message = f"distillation.teacher {missing} is not there. Train the teacher first: "
    with pytest.raises(RecipeError, match=message + f"fastbot train RECIPE --data STORE --out {missing}; or"):
        load(missing)
    with pytest.raises(RecipeError, match="is neither a run folder nor a checkpoint folder in one"):
        load(tmp_path)


def test_a_run_that_has_saved_nothing_is_refused(tmp_path: Path) -> None:
    RunFolder(tmp_path).create(RECIPE, (), resume=False)
    with pytest.raises(CheckpointError, match="best is not there: the run has saved no checkpoint"):
        load(tmp_path)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create(RECIPE, (), resume=False)
    save(folder, 1, nn.Linear(1, 1), best=True)
    with pytest.raises(CheckpointError, match="does not fit torchvision:shufflenet_v2_x0_5: Error"):
        load(tmp_path)


def published(name: str, network: nn.Module) -> pretrained.Pretrained:
    """Return a network as a library would publish it; `test_pretrained` is about the libraries themselves."""
    found = pretrained.find_pretrained(name)
    there = Download("", is_cached=True)
    return replace(found, num_classes=len(CLASSES), _download=there, _create=lambda: copy.deepcopy(network))


@pytest.mark.parametrize("name", ["torchvision:shufflenet_v2_x0_5", "timm:test_resnet"])
def test_a_librarys_network_teaches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = trained(3)
    found = published(name, network)
    monkeypatch.setattr(teachers, "find_pretrained", lambda name: found)
    teacher, identity = load(name, DataSpec(mean=found.mean, std=found.std))
    with torch.no_grad():
        torch.testing.assert_close(teacher(IMAGES), network(IMAGES), rtol=0, atol=0)
    assert (identity.teacher, identity.weights) == (name, found.weights)
    assert identity.sha256 == weights_digest(network.state_dict())


def test_a_librarys_network_of_other_classes_is_refused_before_it_is_fetched() -> None:
    with pytest.raises(RecipeError, match=r"Weights.IMAGENET1K_V1\) has 1000 classes and the store has 3"):
        load("torchvision:squeezenet1_1")


def test_a_library_without_such_a_network_is_an_error() -> None:
    with pytest.raises(ModelError, match="timm has no trained image classifier named resnet51"):
        load("timm:resnet51")
