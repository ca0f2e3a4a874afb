"""LAMB against timm 0.5.4's, whose gradients are never scaled and which is simply not called for a skipped step."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm_054
import torch
from torch import nn

from fastbot.optimizers import lamb, parameter_groups, set_learning_rate
from fastbot.precision import build_precision

DECAY = 0.02
INF = float("inf")


def network() -> nn.Module:
    """Decaying and spared parameters, in both layouts; one decaying weight is all zeros."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 16, 1, bias=False), nn.Flatten(), nn.Linear(16, 5)
    )
    nn.init.zeros_(model[4].weight)  # type: ignore[arg-type]
    return model.to(memory_format=torch.channels_last)


def give_gradients(model: nn.Module, reference: nn.Module, step: int, scale: float) -> None:
    """Norms between 0.2 and 20, so that some are clipped; at first, zeros for the weight that is all zeros."""
    generator = torch.Generator().manual_seed(step)
    size = 10 ** (torch.rand((), generator=generator).item() * 2 - 1.7)
    for index, (ours, theirs) in enumerate(zip(model.parameters(), reference.parameters(), strict=True)):
        nothing = step < 3 and index == 5
        gradient = torch.randn(ours.shape, generator=generator, dtype=ours.dtype) * (0 if nothing else size)
        ours.grad = torch.empty_like(ours).copy_(gradient * scale)
        theirs.grad = torch.empty_like(theirs).copy_(gradient)


def fifty_steps(
    dtype: torch.dtype, max_grad_norm: float | None, trust_clip: bool, scale: float | None
) -> tuple[nn.Module, nn.Module]:
    model = network().to(dtype)
    reference = copy.deepcopy(model)
    ours = lamb(model, 1.0, weight_decay=DECAY, max_grad_norm=max_grad_norm, trust_clip=trust_clip)
    theirs = timm_054.module("optim.lamb").Lamb(
        parameter_groups(reference, DECAY, bias_decay=False), max_grad_norm=max_grad_norm or INF, trust_clip=trust_clip
    )
    for step in range(50):
        for optimizer in (ours, theirs):
            set_learning_rate(optimizer, 0.02 * (1 - step / 60))
        give_gradients(model, reference, step, scale or 1.0)
        if scale is not None:
            ours.grad_scale, ours.found_inf = torch.tensor(scale), torch.zeros(())  # type: ignore[attr-defined]
        if scale is not None and step in (0, 7):
            next(model.parameters()).grad[3] = INF  # type: ignore[index]
            ours.found_inf.fill_(1)  # type: ignore[attr-defined]
        else:
            theirs.step()
        ours.step()
    return model, reference


@pytest.mark.parametrize("trust_clip", [False, True])
@pytest.mark.parametrize("scale", [None, 1024.0, 3000.0], ids=["unscaled", "scaled", "scaled by no power of two"])
def test_equals_timms_over_50_steps(trust_clip: bool, scale: float | None) -> None:
    """With a loss scale, two of the steps, the first among them, overflow."""
    model, reference = fifty_steps(torch.float32, 1.0, trust_clip, scale)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_equals_timms_in_float64_to_its_last_digits() -> None:
    """Without the global clip, whose norm timm 0.5.4 always sums in float32."""
    model, reference = fifty_steps(torch.float64, None, False, None)
    before = network().double()
    for old, ours, theirs in zip(before.parameters(), model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)
        assert not torch.equal(old, ours)


@pytest.mark.parametrize("unscale_first", [False, True])
def test_equals_timms_behind_torchs_loss_scaler(unscale_first: bool) -> None:
    """`grad_scale` is None after `unscale_`, while `found_inf` is set."""
    model = network()
    reference = copy.deepcopy(model)
    precision, ours = build_precision("fp16", torch.device("cpu"), tf32=False), lamb(model, 0.01, weight_decay=DECAY)
    theirs = timm_054.module("optim.lamb").Lamb(parameter_groups(reference, DECAY, bias_decay=False), lr=0.01)
    clip: Callable[..., None] = lambda scaler, optimizer: scaler.unscale_(optimizer) if unscale_first else None  # noqa: E731
    for step in range(6):
        images = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(step))
        overflow = torch.inf if step in (0, 3) else 1.0
        precision.backward(model(images).square().mean() * overflow)
        precision.step(ours, clip)
        reference.zero_grad()
        reference(images).square().mean().backward()
        if overflow == 1:
            theirs.step()
    for one, other in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
