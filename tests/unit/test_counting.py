from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from fastbot.errors import ModelError
from fastbot.models.counting import Size, measure
from fastbot.models.registry import build_model


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return build_model(name, 1000)


def test_counts_of_a_small_network_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),  # 10x10 pictures: 5x5 outputs
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),  # 3x3 outputs, one input channel each
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    parameters = 3 * 8 * 9 + 16 + (8 * 9 + 8) + (8 * 5 + 5)
    multiply_adds = 25 * 8 * 27 + 9 * 8 * 9 + 40
    assert measure(model, 10) == Size(parameters, multiply_adds, activations=25 * 8 + 9 * 8 + 5)
    assert model.training
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())


@pytest.mark.parametrize(("name", "printed"), [("resnet50b", 4.1), ("resnet50c", 4.3), ("resnet50d", 4.3)])
def test_multiply_adds_are_those_of_table_5(name: str, printed: float) -> None:
    assert round(measure(on_meta(name), 224).multiply_adds / 1e9, 1) == printed


def test_the_baseline_is_what_table_1_rounds_and_table_5_cuts() -> None:
    """BoT prints ResNet-50 as 3.9 G in table 1 and as 3.8 G in table 5."""
    gmacs = measure(on_meta("resnet50v1"), 224).multiply_adds / 1e9
    assert round(gmacs, 1) == 3.9
    assert int(gmacs * 10) / 10 == 3.8


@pytest.mark.parametrize(("name", "printed"), [("timm:resnext50_32x4d", 4.2), ("timm:seresnet50", 4.1)])
def test_other_networks_of_table_1(name: str, printed: float) -> None:
    """Built on the 3x3-strided ResNet: 0.23 G more than the paper's SE-ResNet-50 of 3.9 G."""
    pytest.importorskip("timm")
    assert round(measure(build_model(name, 1000), 224).multiply_adds / 1e9, 1) == printed


@pytest.mark.parametrize(
    ("ours", "theirs", "size"),
    [
        ("resnet18b", torchvision.models.ResNet18_Weights.IMAGENET1K_V1, 224),
        ("resnet50b", torchvision.models.ResNet50_Weights.IMAGENET1K_V1, 224),
        ("resnet152b", torchvision.models.ResNet152_Weights.IMAGENET1K_V1, 224),
        ("inception_v3", torchvision.models.Inception_V3_Weights.IMAGENET1K_V1, 299),
        ("torchvision:vit_b_16", torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1, 224),
        ("torchvision:mobilenet_v2", torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1, 224),
    ],
)
def test_multiply_adds_are_those_torchvision_publishes(
    ours: str, theirs: torchvision.models.WeightsEnum, size: int
) -> None:
    with torch.device("meta"):
        model = build_model(ours, 1000)
    assert round(measure(model, size).multiply_adds / 1e9, 3) == theirs.meta["_ops"]


# timm's results table; its GMACs there have two operations for each number that a batch norm puts out.
@pytest.mark.parametrize(
    ("name", "size", "parameters", "gmacs", "activations"),
    [
        ("resnet50b", 224, 25.56, 4.11, 11.11),
        ("resnet50d", 224, 25.58, 4.35, 11.92),
        ("resnet50c", 224, 25.58, 4.35, 11.92),
        ("resnet18d", 224, 11.71, 2.06, 3.29),
        ("resnet152d", 224, 60.21, 11.80, 23.36),
        ("inception_v3", 299, 23.83, 5.73, 8.97),
        ("mobilenet", 224, 4.23, 0.58, 5.04),
    ],
)
def test_counts_are_those_of_timms_table(
    name: str, size: int, parameters: float, gmacs: float, activations: float
) -> None:
    found = measure(on_meta(name), size)
    assert round(found.parameters / 1e6, 2) == parameters
    assert round(found.activations / 1e6, 2) == activations
    batch_norms = 2 * found.activations  # every convolution has one; the classifier's thousand do not show
    assert (found.multiply_adds + batch_norms) / 1e9 == pytest.approx(gmacs, abs=0.006)


def test_a_picture_that_does_not_fit_is_said() -> None:
    with pytest.raises(ModelError, match="inception_v3 cannot be run on pictures of 32 pixels: .*[Kk]ernel"):
        measure(on_meta("inception_v3"), 32, "inception_v3")
