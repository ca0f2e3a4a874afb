from __future__ import annotations

from typing import Any

import pytest
import torch
from batches import random_batch
from torch import nn

from fastbot.build import compiled, criterion_of, trained_model_on
from fastbot.criteria import Criterion
from fastbot.distillation import Normalization, Teacher
from fastbot.errors import FastbotError, ModelError, RecipeError
from fastbot.recipe import Recipe
from fastbot.recipe_files import load_recipe
from fastbot.specs import Duration, PrecisionSpec, TeacherSpec
from fastbot.teachers import weights_digest
from pipelines.spec import BOT_MEAN, BOT_STD

NUM_CLASSES = 5
BOT, HALVES = Normalization(BOT_MEAN, BOT_STD), Normalization((127.5,) * 3, (127.5,) * 3)


def recipe(**options: Any) -> Recipe:
    spec = TeacherSpec(teacher="runs/teacher")
    return Recipe(name="student", about="learns", epochs=Duration(value=1), distillation=spec, **options)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8, NUM_CLASSES))


def teacher_of(dtype: torch.dtype) -> Teacher:
    return Teacher(network(), torch.device("cpu"), dtype, HALVES, given=BOT)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[torch.fx.GraphModule]:
    """What torch.compile would have compiled: graphs are collected, and run as they are."""
    found: list[torch.fx.GraphModule] = []
    original = torch.compile

    def collect(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> torch.fx.GraphModule:
        found.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", lambda module: original(module, backend=collect))
    return found


def loss_of(criterion: Criterion, student: nn.Module) -> torch.Tensor:
    batch = random_batch(num_classes=NUM_CLASSES)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = criterion(student(batch.images), batch)
    return loss


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_teacher_is_compiled_where_the_student_is(dtype: torch.dtype, graphs: list[torch.fx.GraphModule]) -> None:
    teacher, student = teacher_of(dtype), network()
    names, digest = list(teacher.state_dict()), weights_digest(teacher.network.state_dict())
    expected = loss_of(criterion_of(recipe(), teacher), student.eval())
    assert not graphs
    criterion = criterion_of(recipe(compile=True, precision=PrecisionSpec(kind="bf16")), teacher)
    for _ in range(2):
        loss = loss_of(criterion, student)
        torch.testing.assert_close(loss, expected, rtol=0, atol=0)
    loss.backward()
    assert len(graphs) == 1, "the teacher in one piece, and once"
    assert not any(module.training for module in teacher.modules())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert list(teacher.state_dict()) == names
    assert weights_digest(teacher.network.state_dict()) == digest


def test_a_compiled_model_keeps_its_own_names(graphs: list[torch.fx.GraphModule]) -> None:
    model = network().eval()
    names = list(model.state_dict())
    wrapper = compiled(recipe(compile=True), model)
    images = random_batch().images
    torch.testing.assert_close(wrapper(images), model(images), rtol=0, atol=0)
    assert len(graphs) == 1
    assert list(model.state_dict()) == names
    assert compiled(recipe(), model) is model


ANY = ("model.zero_gamma=false", "model.init=default")
SQUEEZE = ("model.name=torchvision:squeezenet1_1", *ANY)
SMALL = ("model.name=resnet18d", "data.crop_size=32", "data.eval.crop_size=32")


@pytest.mark.parametrize(
    ("overrides", "error", "said"),
    [
        ((*SMALL, "data.global_batch_size=1"), RecipeError, "data.global_batch_size is 1, so that"),
        ((*SMALL, "data.global_batch_size=32", "micro_batches=32"), RecipeError, "micro_batches is 32, so that"),
        ((*SMALL, "model.bn_batch=1"), RecipeError, "model.bn_batch is 1, so that .* They need at least 2 pictures"),
        (("model.name=inception_v3", *ANY, "data.crop_size=33"), ModelError, "Choose data.crop_size of at least 75"),
        (
            (*SQUEEZE, "data.crop_size=96", "data.eval.crop_size=8"),
            ModelError,
            "does not take pictures of 8 px .* Choose data.eval.crop_size of at least [0-9]+$",
        ),
        (
            (*SQUEEZE, "data.crop_size=96", "data.size_ramp={start_size=8}"),
            ModelError,
            "Choose data.size_ramp.start_size of at least [0-9]+$",
        ),
        (
            ("model.name=timm:vit_tiny_patch16_224", *ANY, "data.crop_size=33"),
            ModelError,
            "Choose another data.crop_size",
        ),
    ],
)
def test_pictures_that_a_network_does_not_take_are_refused_by_key(
    overrides: tuple[str, ...], error: type[FastbotError], said: str
) -> None:
    with pytest.raises(error, match=said):
        trained_model_on(load_recipe("demo", overrides), NUM_CLASSES, torch.device("cpu"), world_size=1)


@pytest.mark.parametrize(
    "overrides",
    [
        ("data.global_batch_size=1",),  # the last batch norms still see 2 x 2 pixels
        ("model.bn_batch=sync", "data.crop_size=32", "data.global_batch_size=2"),
        ("model.bn_batch=2", "data.crop_size=32"),
    ],
)
def test_few_pictures_are_taken_where_there_are_values_enough(overrides: tuple[str, ...]) -> None:
    recipe = load_recipe("demo", ["model.name=resnet18d", "data.crop_size=64", *overrides])
    ranks = 2 if recipe.model.bn_batch == "sync" else 1
    assert trained_model_on(recipe, NUM_CLASSES, torch.device("cpu"), world_size=ranks).training
