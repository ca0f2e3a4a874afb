"""Clips against timm 0.5.4's AGC, and against numpy in float64."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import timm_054
import torch
from torch import nn

from fastbot.clipping import AdaptiveClip, Clip, NormClip, ValueClip
from fastbot.models.registry import build_model

SCALE = 2.0**13


def network(size: float) -> nn.Module:
    """Gradients of many sizes, some units' zero, some units' weights zero."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 16, 1, bias=False), nn.Linear(16, 5))
    model.to(memory_format=torch.channels_last)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter[0] = 0
            sizes = size * 10 ** torch.empty([len(parameter)] + [1] * (parameter.ndim - 1)).uniform_(-3, 1)
            parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape) * sizes)
            parameter.grad[-1] = 0
    return model


def clipped(model: nn.Module, clip: Clip, scale: float | None) -> nn.Module:
    """Clip behind a loss scaler that is disabled, or that multiplied the gradients."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
    scaler.scale(torch.zeros(()))  # its scale comes to be when it is first used
    if scale is not None:
        for parameter in model.parameters():
            parameter.grad.mul_(scale)  # type: ignore[union-attr]
    clip(scaler, torch.optim.SGD(model.parameters(), lr=0.1))
    return model


def gradients(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("scale", [None, SCALE])
def test_agc_equals_timms(scale: float | None) -> None:
    model, reference = network(0.1), network(0.1)
    timm_054.module("utils.agc").adaptive_clip_grad(reference.parameters(), clip_factor=0.02, eps=2e-3)
    changed = 0
    for before, one, other in zip(
        gradients(network(0.1)),
        gradients(clipped(model, AdaptiveClip(0.02, 2e-3), scale)),
        gradients(reference),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=0)
        changed += not torch.equal(before, one)
        if before.ndim > 1:
            assert 0 < sum(map(torch.equal, before, one)) < len(before)  # some units are clipped, some are not
    assert changed > 3


def test_agc_leaves_out_what_timm_leaves_out_in_a_resnet() -> None:
    torch.manual_seed(0)
    model = build_model("resnet18d", 10)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    reference = copy.deepcopy(model)
    for one, other in zip(reference.parameters(), model.parameters(), strict=True):
        one.grad = other.grad.clone()  # type: ignore[union-attr]
    head = timm_054.module("models.helpers").model_parameters
    timm_054.module("utils.agc").adaptive_clip_grad(head(reference, exclude_head=True), clip_factor=0.01)
    clipped(model, AdaptiveClip(0.01, 1e-3, [model.fc.weight, model.fc.bias]), None)  # type: ignore[list-item, union-attr]
    for one, other in zip(gradients(model), gradients(reference), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=0)


@pytest.mark.parametrize("scale", [None, SCALE])
@pytest.mark.parametrize("size", [1e-4, 1.0])
def test_norm_clip_equals_float64(size: float, scale: float | None) -> None:
    before = [gradient.double().numpy() for gradient in gradients(network(size))]
    norm = np.sqrt(sum(np.square(gradient).sum() for gradient in before))
    assert (norm > 2) == (size == 1)
    for old, new in zip(before, gradients(clipped(network(size), NormClip(2.0), scale)), strict=True):
        np.testing.assert_allclose(new.numpy(), old * min(1, 2 / norm), rtol=1e-5)


@pytest.mark.parametrize("scale", [None, SCALE])
def test_value_clip_equals_numpys(scale: float | None) -> None:
    before = [gradient.numpy() for gradient in gradients(network(1.0))]
    assert max(np.abs(gradient).max() for gradient in before) > 0.3
    for old, new in zip(before, gradients(clipped(network(1.0), ValueClip(0.3), scale)), strict=True):
        np.testing.assert_array_equal(new.numpy(), np.clip(old, np.float32(-0.3), np.float32(0.3)))
