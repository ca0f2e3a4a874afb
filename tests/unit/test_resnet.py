from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from fastbot.models.registry import RESNETS
from fastbot.models.resnet import VARIANTS, BasicBlock, ResNet


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


def test_stochastic_depth_is_linear_over_all_blocks() -> None:
    model = ResNet(50, VARIANTS["d"], num_classes=3, drop_path=0.05)
    blocks = [block for stage in (model.layer1, model.layer2, model.layer3, model.layer4) for block in stage]
    assert isinstance(blocks[0].drop_path, nn.Identity)
    rates = [0.0] + [block.drop_path.p for block in blocks[1:]]
    assert rates == pytest.approx(np.linspace(0, 0.05, 16))


def test_stochastic_depth_drops_the_residual_branch_of_whole_samples() -> None:
    torch.manual_seed(1)
    block = BasicBlock(4, 4, 1, VARIANTS["b"], drop_path=0.4)
    x, branch = torch.rand(200, 4, 3, 3), torch.full((200, 4, 3, 3), 3.0)
    block.bn2 = nn.Module()
    block.bn2.forward = lambda _: branch.clone()
    added = block(x) - x
    kept = added[:, 0, 0, 0] > 1
    expected = torch.where(kept, 3 / 0.6, 0.0).view(-1, 1, 1, 1).expand_as(added)
    torch.testing.assert_close(added, expected)
    assert kept.float().mean().item() == pytest.approx(0.6, abs=5 * (0.24 / 200) ** 0.5)
    torch.testing.assert_close(block.eval()(x) - x, branch)


def test_nothing_is_dropped_where_nothing_is_asked() -> None:
    model = ResNet(18, VARIANTS["b"], num_classes=3)
    assert not [m for m in model.modules() if isinstance(m, (nn.Dropout, StochasticDepth))]
