"""Every row of the papers' tables has its recipe. The figures here are typed from the papers, not from the recipes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from recipe_headers import header

from fastbot.recipe import Recipe
from fastbot.recipe_files import load_recipe, recipe_names
from fastbot.specs import BinaryCrossEntropySpec, Duration, LambSpec, TeacherSpec, TimmCosine
from pipelines.spec import Mixup, MixupCutMix, RandAugment, RepeatAugment, Shuffle, SizeRamp

# Bag of Tricks: recipe, top-1, top-5.
TABLE_2 = [
    ("bot-baseline", 75.87, 92.70),
    ("bot-inceptionv3-baseline", 77.32, 93.43),
    ("bot-mobilenet-baseline", 69.03, 88.71),
]
TABLE_3 = [
    ("bot-efficient", 76.21, 92.97),
    ("bot-inceptionv3", 77.50, 93.60),
    ("bot-mobilenet", 71.90, 90.47),
]
TABLE_4 = [
    ("bot-baseline", 75.87, 92.70),
    ("bot-table4-256-warmup", 76.03, 92.81),
    ("bot-table4-256-zero-gamma", 76.19, 93.03),
    ("bot-table4-256-no-bias-decay", 76.16, 92.97),
    ("bot-table4-256-fp16", 76.15, 93.09),
    ("bot-table4-1024-linear-scaling", 75.17, 92.54),
    ("bot-table4-1024-warmup", 75.93, 92.84),
    ("bot-table4-1024-zero-gamma", 76.37, 92.96),
    ("bot-table4-1024-no-bias-decay", 76.03, 92.86),
    ("bot-efficient", 76.21, 92.97),
]
TABLE_5 = [
    ("bot-efficient", 76.21, 92.97),
    ("bot-resnet50b", 76.66, 93.28),
    ("bot-resnet50c", 76.87, 93.48),
    ("bot-resnet50d", 77.16, 93.52),
]
TABLE_6 = [
    ("bot-resnet50d", 77.16, 93.52),
    ("bot-resnet50d-cosine", 77.91, 93.81),
    ("bot-resnet50d-smoothing", 78.31, 94.09),
    ("bot-resnet50d-distill", 78.67, 94.36),
    ("bot-resnet50d-mixup", 79.15, 94.58),
    ("bot-resnet50d-distill-mixup", 79.29, 94.63),
    ("bot-inceptionv3", 77.50, 93.60),
    ("bot-inceptionv3-cosine", 78.19, 94.06),
    ("bot-inceptionv3-smoothing", 78.40, 94.13),
    ("bot-inceptionv3-distill", 78.26, 94.01),
    ("bot-inceptionv3-mixup", 78.77, 94.39),
    ("bot-inceptionv3-distill-mixup", 78.34, 94.16),
    ("bot-mobilenet", 71.90, 90.47),  # table 6 prints 90.53, table 3 90.47
    ("bot-mobilenet-cosine", 72.83, 91.00),
    ("bot-mobilenet-smoothing", 72.93, 91.14),
    ("bot-mobilenet-distill", 71.97, 90.89),
    ("bot-mobilenet-mixup", 73.28, 91.30),
    ("bot-mobilenet-distill-mixup", 72.51, 91.02),
]
TABLE_7 = [("bot-places365", 56.34, 86.87), ("bot-places365-best", 56.70, 87.33)]
# timm's released checkpoints of RSB, at 224 px: recipe, top-1, top-5.
RSB = [("rsb-a1", 80.382, 94.598), ("rsb-a2", 79.828, 94.560), ("rsb-a3", 78.052, 93.780)]
FFCV = [
    ("ffcv-rn50-16ep", 73.8, 90.8),
    ("ffcv-rn50-24ep", 75.6, 92.1),
    ("ffcv-rn50-32ep", 76.6, 92.7),
    ("ffcv-rn50-40ep", 77.2, 93.2),
    ("ffcv-rn50-56ep", 78.0, 93.7),
    ("ffcv-rn50-88ep", 78.4, 94.1),
]
ROWS = sorted({*TABLE_2, *TABLE_3, *TABLE_4, *TABLE_5, *TABLE_6, *TABLE_7, *RSB, *FFCV})
NETWORKS = {"resnet50d": "resnet50d", "inceptionv3": "inception_v3", "mobilenet": "mobilenet"}


def epochs(recipe: Recipe) -> float:
    assert recipe.epochs.unit == "epochs"
    return recipe.epochs.value


@pytest.mark.parametrize(("name", "top1", "top5"), ROWS)
def test_every_row_has_its_recipe_with_the_papers_figures(name: str, top1: float, top5: float) -> None:
    paper = load_recipe(name).paper
    assert paper is not None
    assert (paper.top1, paper.top5) == pytest.approx((top1 / 100, top5 / 100), abs=1e-9)
    assert paper.standing == "verified"


def test_every_recipe_but_the_teachers_and_the_demo_is_a_row() -> None:
    others = {"bot-resnet152d-teacher", "bot-resnet152d-teacher-mixup", "demo"}
    assert {name for name, _, _ in ROWS} | others == set(recipe_names())


# What each training has: batch, learning rate, warmup, zero gamma, bias decay, precision, batch norm's pictures.
HEURISTICS: dict[str, tuple[Any, ...]] = {
    "bot-baseline": (256, 0.1, 0, False, True, "fp32", 32),
    "bot-table4-256-warmup": (256, 0.1, 5, False, True, "fp32", 32),
    "bot-table4-256-zero-gamma": (256, 0.1, 5, True, True, "fp32", 32),
    "bot-table4-256-no-bias-decay": (256, 0.1, 5, True, False, "fp32", 32),
    "bot-table4-256-fp16": (256, 0.1, 5, True, False, "fp16", 32),
    "bot-table4-1024-linear-scaling": (1024, 0.4, 0, False, True, "fp32", 128),
    "bot-table4-1024-warmup": (1024, 0.4, 5, False, True, "fp32", 128),
    "bot-table4-1024-zero-gamma": (1024, 0.4, 5, True, True, "fp32", 128),
    "bot-table4-1024-no-bias-decay": (1024, 0.4, 5, True, False, "fp32", 128),
    "bot-efficient": (1024, 0.4, 5, True, False, "fp16", 128),
    "bot-inceptionv3-baseline": (256, 0.1, 0, False, True, "fp32", 32),
    "bot-mobilenet-baseline": (256, 0.1, 0, False, True, "fp32", 32),
    # Neither has a residual branch whose gamma could be zero.
    **{name: (1024, 0.4, 5, False, False, "fp16", 128) for name, _, _ in TABLE_6 if "resnet" not in name},
    **{name: (1024, 0.4, 5, True, False, "fp16", 128) for name, _, _ in (*TABLE_6, *TABLE_7) if "net50" in name},
    **dict.fromkeys(("bot-resnet50b", "bot-resnet50c"), (1024, 0.4, 5, True, False, "fp16", 128)),
    "bot-places365": (1024, 0.4, 5, True, False, "fp16", 128),
    "bot-places365-best": (1024, 0.4, 5, True, False, "fp16", 128),
    # The teachers' batches are those of GluonCV's scripts.
    "bot-resnet152d-teacher": (512, 0.2, 5, True, False, "fp16", 64),
    "bot-resnet152d-teacher-mixup": (256, 0.1, 5, True, False, "fp16", 32),
}


@pytest.mark.parametrize("name", [name for name in recipe_names() if name.startswith("bot-")])
def test_the_heuristics_of_efficient_training(name: str) -> None:
    recipe = load_recipe(name)
    optimizer = recipe.optimizer
    assert optimizer.kind == "nag"
    assert (optimizer.momentum, optimizer.weight_decay, optimizer.nesterov) == (0.9, 1e-4, True)
    assert recipe.paper is not None
    assert (
        recipe.data.global_batch_size,
        pytest.approx(recipe.learning_rate),
        recipe.schedule.warmup.value,
        recipe.model.zero_gamma,
        optimizer.bias_decay,
        recipe.precision.kind,
        recipe.paper.bn_batch,
    ) == HEURISTICS[name]
    assert not recipe.precision.tf32


@pytest.mark.parametrize("name", [name for name in recipe_names() if name.startswith("bot-")])
def test_what_all_trainings_of_bag_of_tricks_share(name: str) -> None:
    recipe = load_recipe(name)
    size, resized = (299, math.ceil(299 / 0.875)) if "inception" in name else (224, 256)
    assert (recipe.data.crop_size, recipe.data.eval.crop_size, recipe.data.eval.resize_size) == (size, size, resized)
    assert recipe.data.interpolation == recipe.data.eval.interpolation == "bilinear"
    assert (recipe.data.jitter.kind, recipe.data.lighting_std, recipe.data.auto_augment.kind) == ("hsv", 0.1, "none")
    assert recipe.data.mean == (123.68, 116.779, 103.939)
    assert recipe.data.std == (58.393, 57.12, 57.375)
    assert (recipe.model.init, recipe.model.dropout, recipe.model.aux_weight) == ("paper", None, 0)
    if recipe.schedule.kind == "step":
        assert [milestone.value for milestone in recipe.schedule.milestones] == [30, 60, 90]
        assert recipe.schedule.factor == 0.1


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("row", "num_epochs", "schedule", "smoothing", "alpha", "teacher"),
    [
        ("", 120, "step", 0, None, None),
        ("-cosine", 120, "cosine", 0, None, None),
        ("-smoothing", 120, "cosine", 0.1, None, None),
        ("-distill", 120, "cosine", 0.1, None, "runs/bot-resnet152d-teacher"),
        ("-mixup", 200, "cosine", 0.1, 0.2, None),
        ("-distill-mixup", 200, "cosine", 0.1, 0.2, "runs/bot-resnet152d-teacher-mixup"),
    ],
)
def test_the_refinements_of_table_6(
    network: str,
    row: str,
    num_epochs: int,
    schedule: str,
    smoothing: float,
    alpha: float | None,
    teacher: str | None,
) -> None:
    recipe = load_recipe(f"bot-{network}{row}")
    assert recipe.model.name == NETWORKS[network]
    assert (epochs(recipe), recipe.schedule.kind) == (num_epochs, schedule)
    assert (recipe.loss.kind, recipe.loss.label_smoothing, recipe.loss.smoothing) == (
        "cross_entropy",
        smoothing,
        "others",
    )
    assert (recipe.data.mix.alpha if isinstance(recipe.data.mix, Mixup) else None) == alpha
    distillation = recipe.distillation
    if teacher is None:
        assert distillation.kind == "none"
        return
    assert isinstance(distillation, TeacherSpec)
    assert distillation.teacher == teacher
    assert (distillation.temperature, distillation.hard_weight, distillation.soft_weight) == (20, 1, 1)
    trained = load_recipe(teacher.removeprefix("runs/"))
    assert (trained.model.name, trained.schedule.kind, trained.loss.label_smoothing) == ("resnet152d", "cosine", 0.1)
    assert trained.data.mix == recipe.data.mix
    assert f"--out {teacher}\n" in header(f"bot-{network}{row}")


def test_places365_is_the_first_and_the_last_row_without_a_teacher() -> None:
    for places, imagenet in (("bot-places365", "bot-resnet50d"), ("bot-places365-best", "bot-resnet50d-mixup")):
        assert load_recipe(places).training_digest() == load_recipe(imagenet).training_digest()


def test_variants_of_resnet_50() -> None:
    names = [load_recipe(name).model.name for name, _, _ in TABLE_5]
    assert names == ["resnet50v1", "resnet50b", "resnet50c", "resnet50d"]


# RSB's table of ingredients, then what timm 0.5.4 makes of it.
@pytest.mark.parametrize(
    ("name", "num_epochs", "size", "rate", "decay", "smoothing", "threshold", "drop_path", "repeats", "m", "alpha"),
    [
        ("rsb-a1", 600, 224, 5e-3, 0.01, 0.1, None, 0.05, 3, 7, 0.2),
        ("rsb-a2", 300, 224, 5e-3, 0.02, 0.0, 0.2, 0.05, 3, 7, 0.1),
        ("rsb-a3", 100, 160, 8e-3, 0.02, 0.0, 0.2, 0.0, 1, 6, 0.1),
    ],
)
def test_the_ingredients_of_resnet_strikes_back(
    name: str,
    num_epochs: int,
    size: int,
    rate: float,
    decay: float,
    smoothing: float,
    threshold: float | None,
    drop_path: float,
    repeats: int,
    m: float,
    alpha: float,
) -> None:
    recipe = load_recipe(name)
    data, loss, optimizer = recipe.data, recipe.loss, recipe.optimizer
    assert (epochs(recipe), data.global_batch_size, data.crop_size) == (num_epochs, 2048, size)
    assert isinstance(optimizer, LambSpec)
    assert optimizer == LambSpec(base_learning_rate=rate, weight_decay=decay)  # its defaults are timm's
    assert recipe.learning_rate == pytest.approx(rate)
    assert loss == BinaryCrossEntropySpec(label_smoothing=smoothing, target_threshold=threshold, smoothing="all")
    assert (recipe.model.name, recipe.model.init, recipe.model.zero_gamma) == ("resnet50b", "kaiming", True)
    assert recipe.model.drop_path == drop_path
    assert data.order == (RepeatAugment(repeats=repeats) if repeats > 1 else Shuffle())
    assert data.auto_augment == RandAugment(magnitude=m, magnitude_std=0.5, layers=2, probability=0.5)
    assert data.mix == MixupCutMix(mixup_alpha=alpha, cutmix_alpha=1.0, switch=0.5, draw="group", group=512)
    assert (data.jitter.kind, data.lighting_std, data.erasing.probability) == ("none", 0, 0)
    assert (data.interpolation, data.eval.interpolation) == ("bicubic", "bicubic")
    assert (data.eval.resize_size, data.eval.crop_size) == (math.floor(224 / 0.95), 224)
    assert data.mean == pytest.approx([255 * 0.485, 255 * 0.456, 255 * 0.406])
    assert data.std == pytest.approx([255 * 0.229, 255 * 0.224, 255 * 0.225])
    assert recipe.schedule == TimmCosine(
        warmup=Duration(value=5), warmup_learning_rate=1e-4, min_learning_rate=1e-6, cooldown=Duration(value=0)
    )
    assert (recipe.precision.kind, recipe.channels_last) == ("fp16", True)
    assert (recipe.clip.kind, recipe.ema) == ("none", None)


def test_a1_has_the_other_reading_in_one_override() -> None:
    override = 'loss={kind="bce", target_threshold=0.2}'
    assert override in header("rsb-a1")
    loss = load_recipe("rsb-a1", [override]).loss
    assert loss == BinaryCrossEntropySpec(target_threshold=0.2)
    assert loss == load_recipe("rsb-a2").loss


@pytest.mark.parametrize(
    ("name", "real", "v2"),
    [("rsb-a1", 85.712, 68.47), ("rsb-a2", 85.447, 67.81), ("rsb-a3", 84.480, 65.67)],
)
def test_resnet_strikes_back_on_other_labels_and_pictures(name: str, real: float, v2: float) -> None:
    paper = load_recipe(name).paper
    assert paper is not None
    assert (paper.real, paper.v2) == pytest.approx((real / 100, v2 / 100))


# ffcv-imagenet's rn50_configs: epochs, start_ramp, end_ramp.
@pytest.mark.parametrize(
    ("num_epochs", "start", "end"), [(16, 11, 13), (24, 17, 20), (32, 23, 27), (40, 29, 34), (56, 41, 48), (88, 65, 76)]
)
def test_the_trainings_of_ffcv(num_epochs: int, start: int, end: int) -> None:
    recipe = load_recipe(f"ffcv-rn50-{num_epochs}ep")
    assert (epochs(recipe), recipe.data.global_batch_size) == (num_epochs, 8 * 512)
    assert recipe.learning_rate == pytest.approx(1.7)
    assert recipe.data.size_ramp == SizeRamp(start_size=160, start_epoch=start, end_epoch=end, multiple=32)
    assert recipe.data.crop_size == 192
    optimizer = recipe.optimizer
    assert optimizer.kind == "nag"
    assert (optimizer.momentum, optimizer.nesterov, optimizer.weight_decay) == (0.9, False, 1e-4)
    assert (recipe.schedule.kind, recipe.schedule.warmup.value) == ("linear", 2)
    assert (recipe.loss.label_smoothing, recipe.loss.smoothing) == (0.1, "all")
    assert (recipe.model.name, recipe.model.blur_pool, recipe.model.zero_gamma) == ("resnet50b", True, False)
    assert recipe.run.eval_flip
    assert recipe.data.eval.crop_size == 256
    assert recipe.data.eval.resize_size == pytest.approx(256 / (224 / 256), abs=0.5)
