from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fastbot.models.registry import RESNETS
from fastbot.models.resnet import VARIANTS, ResNet


def on_meta(name: str) -> ResNet:
    depth, variant = RESNETS[name]
    with torch.device("meta"):
        return ResNet(depth, variant)


# torchvision's and timm's published counts, at 1000 classes (timm's results table, in M: 25.56, 25.58, ...).
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18b", 11_689_512),
        ("resnet34b", 21_797_672),
        ("resnet50v1", 25_557_032),
        ("resnet50b", 25_557_032),
        ("resnet50c", 25_576_264),
        ("resnet50d", 25_576_264),
        ("resnet101b", 44_549_160),
        ("resnet152b", 60_192_808),
        ("resnet152d", 60_212_040),
    ],
)
def test_parameter_counts(name: str, expected: int) -> None:
    assert sum(parameter.numel() for parameter in on_meta(name).parameters()) == expected


# BoT table 5, in G multiply-adds at 224 px (the paper prints v1 as 3.8 there and as 3.9 in table 1).
@pytest.mark.parametrize(
    ("name", "paper"), [("resnet50v1", 3.85), ("resnet50b", 4.1), ("resnet50c", 4.3), ("resnet50d", 4.3)]
)
def test_multiply_adds_are_those_of_table_5(name: str, paper: float) -> None:
    model = on_meta(name)
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 224, 224, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(paper, abs=0.05)


@pytest.mark.parametrize("name", ["resnet18v1", "resnet50d"])
def test_channels_last_is_kept(name: str) -> None:
    depth, variant = RESNETS[name]
    model = ResNet(depth, variant, num_classes=3).to(memory_format=torch.channels_last)
    layouts = []
    model.layer4.register_forward_hook(
        lambda module, inputs, output: layouts.append(output.is_contiguous(memory_format=torch.channels_last))
    )
    images = torch.randn(2, 3, 64, 64).to(memory_format=torch.channels_last)
    assert model(images).shape == (2, 3)
    assert layouts == [True]


def test_each_tweak_changes_one_thing() -> None:
    models = {name: on_meta(f"resnet50{name}") for name in VARIANTS}
    strides = {name: (m.layer2[0].conv1.stride[0], m.layer2[0].conv2.stride[0]) for name, m in models.items()}
    assert strides == {"v1": (2, 1), "b": (1, 2), "c": (1, 2), "d": (1, 2)}
    stems = {name: isinstance(m.conv1, nn.Sequential) for name, m in models.items()}
    assert stems == {"v1": False, "b": False, "c": True, "d": True}
    pooled = {name: isinstance(m.layer2[0].downsample[0], nn.AvgPool2d) for name, m in models.items()}
    assert pooled == {"v1": False, "b": False, "c": False, "d": True}


def test_convolutions_have_no_bias() -> None:
    biases = [m.bias for name in RESNETS for m in on_meta(name).modules() if isinstance(m, nn.Conv2d)]
    assert biases
    assert all(bias is None for bias in biases)


def test_zero_gamma_blocks_are_the_identity_and_still_learn() -> None:
    model = ResNet(18, VARIANTS["d"], num_classes=3)
    block = model.layer1[0]
    nn.init.zeros_(block.bn2.weight)
    x = torch.rand(2, 64, 8, 8)
    out = block(x)
    torch.testing.assert_close(out, x)
    out.sum().backward()
    assert block.bn2.weight.grad is not None
    assert block.bn2.weight.grad.abs().max() > 0
