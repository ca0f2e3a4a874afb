from __future__ import annotations

import math
import warnings

import pytest
import torch
import torchvision
from torch import nn

from fastbot.models.initialization import (
    initialize_gluoncv,
    initialize_kaiming,
    initialize_paper,
    last_batch_norms,
    zero_gamma,
)
from fastbot.models.registry import build_model


def disturbed(model: nn.Module) -> nn.Module:
    """Return the model with every parameter off its usual value, so that a reset shows."""
    for parameter in model.parameters():
        nn.init.constant_(parameter, 3.0)
    return model


def batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize(
    ("layer", "bound"),
    [
        # sqrt(6 / (d_in + d_out)) by hand; channels only: torch's Xavier would give the 3x3 a third of this.
        (nn.Conv2d(24, 72, 3), 0.25),
        (nn.Conv2d(24, 72, 1), 0.25),
        (nn.Conv2d(48, 48, 3, groups=48), 0.25),
        (nn.Linear(1000, 536), 0.0625),
    ],
)
def test_paper_weights_are_uniform_over_channels(layer: nn.Conv2d | nn.Linear, bound: float) -> None:
    torch.manual_seed(0)
    initialize_paper(disturbed(layer))
    weight = layer.weight.detach().double()
    assert weight.abs().max() <= bound
    assert weight.abs().max() > 0.97 * bound
    # Variance bound^2 / 3, with five standard errors of the variance of a uniform sample.
    error = 5 * math.sqrt(4 / 45 / weight.numel()) * bound**2
    assert weight.var().item() == pytest.approx(bound**2 / 3, abs=error)
    assert layer.bias is not None
    assert layer.bias.abs().max() == 0


@pytest.mark.parametrize(
    ("layer", "std"),
    [
        # sqrt(2 / 1.0625 / mean fan) by hand, fans with the kernel's area.
        (nn.Conv2d(24, 72, 3), math.sqrt(2 / 1.0625 / (9 * 48))),
        (nn.Conv2d(48, 48, 3, groups=48), math.sqrt(2 / 1.0625 / (9 * 24.5))),
        (nn.Linear(1000, 536), math.sqrt(2 / 1.0625 / 768)),
    ],
)
def test_gluoncv_weights_are_normal_over_both_fans(layer: nn.Conv2d | nn.Linear, std: float) -> None:
    torch.manual_seed(0)
    initialize_gluoncv(disturbed(layer))
    weight = layer.weight.detach().double()
    # Five standard errors of the standard deviation of a normal sample.
    assert weight.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * weight.numel()))
    assert weight.abs().max() > 2.5 * std  # not uniform, not truncated at 2
    assert layer.bias is not None
    assert layer.bias.abs().max() == 0


def test_gluoncv_resets_batch_norms() -> None:
    model = initialize_gluoncv(disturbed(torchvision.models.resnet18()))
    assert all(norm.weight.eq(1).all() and norm.bias.eq(0).all() for norm in batch_norms(model))


def test_our_default_equals_torchvisions_draw_for_draw() -> None:
    torch.manual_seed(5)
    theirs = torchvision.models.resnet18().state_dict()
    torch.manual_seed(5)
    ours = build_model("resnet18b", 1000).state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_kaiming_applies_to_any_model() -> None:
    torch.manual_seed(0)
    model = initialize_kaiming(disturbed(torchvision.models.resnet18()))
    std = model.get_parameter("layer4.1.conv2.weight").std().item()
    assert std == pytest.approx(math.sqrt(2 / (512 * 9)), rel=0.01)
    assert all(norm.weight.eq(1).all() and norm.bias.eq(0).all() for norm in batch_norms(model))


def test_paper_resets_batch_norms() -> None:
    model = initialize_paper(disturbed(torchvision.models.resnet18()))
    assert all(norm.weight.eq(1).all() and norm.bias.eq(0).all() for norm in batch_norms(model))


def models_with_blocks() -> list[tuple[str, int]]:
    return [("resnet18d", 8), ("resnet50v1", 16), ("torchvision:resnet50", 16), ("torchvision:resnet18", 8)]


@pytest.mark.parametrize(("name", "num_blocks"), models_with_blocks())
def test_zero_gamma_zeroes_the_last_batch_norm_of_each_block(name: str, num_blocks: int) -> None:
    model = build_model(name, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert zero_gamma(model) is model
    zeroed = {key for key, value in model.state_dict().items() if key.endswith("weight") and not value.any()}
    last = "bn3" if "50" in name else "bn2"
    assert len(zeroed) == num_blocks
    assert all(key.split(".")[-2] == last and key.startswith("layer") for key in zeroed)


def test_zero_gamma_agrees_with_torchvisions_own_option() -> None:
    expected = torchvision.models.resnet50(zero_init_residual=True)
    model = zero_gamma(torchvision.models.resnet50())
    for ours, theirs in zip(batch_norms(model), batch_norms(expected), strict=True):
        assert torch.equal(ours.weight, theirs.weight)


@pytest.mark.parametrize("name", ["resnet18d", "resnet50d", "seresnet50"])
def test_zero_gamma_agrees_with_timms_own_option(name: str) -> None:
    timm = pytest.importorskip("timm")
    expected = timm.create_model(name, num_classes=4, zero_init_last=True)
    model = zero_gamma(timm.create_model(name, num_classes=4, zero_init_last=False))
    for ours, theirs in zip(batch_norms(model), batch_norms(expected), strict=True):
        assert torch.equal(ours.weight, theirs.weight)


def test_zero_gamma_says_when_it_changed_nothing() -> None:
    model = build_model("torchvision:mobilenet_v2", 4)
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.warns(UserWarning, match="zero_gamma changed nothing: MobileNetV2 has no residual block"):
        zero_gamma(model)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not list(last_batch_norms(model))


def test_zero_gamma_leaves_a_stem_with_two_batch_norms_alone() -> None:
    stem = nn.Module()
    stem.bn1, stem.bn2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    model = nn.Sequential(stem, build_model("torchvision:resnet18", 4))
    assert len(list(last_batch_norms(zero_gamma(model)))) == 8
    assert stem.bn2.weight.eq(1).all()
