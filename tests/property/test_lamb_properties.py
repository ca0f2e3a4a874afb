"""What LAMB promises whatever the gradients: the length of a step, and what scales do not matter."""

from __future__ import annotations

import copy

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fastbot.optimizers import lamb

seeds = st.integers(0, 2**32 - 1)
rates = st.floats(1e-4, 0.5)


def layers(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(40, 30, bias=False), nn.Conv2d(3, 5, 3, bias=False)).double()


def train(model: nn.Module, seed: int, learning_rate: float, scale: float = 1.0, decay: float = 0.05) -> None:
    """Take three steps with gradients of norm `scale` times about 37."""
    optimizer = lamb(model, learning_rate, eps=1e-12, weight_decay=decay)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(3):
        for parameter in model.parameters():
            parameter.grad = scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        optimizer.step()


@settings(max_examples=25, deadline=None)
@given(seeds, rates, st.floats(1e-6, 1e6), st.floats(0.001, 1))
def test_a_step_is_as_long_as_the_learning_rate_times_the_weights(
    seed: int, learning_rate: float, scale: float, decay: float
) -> None:
    model = layers(seed)
    before = copy.deepcopy(model)
    optimizer = lamb(model, learning_rate, weight_decay=decay)
    for old, parameter in zip(before.parameters(), model.parameters(), strict=True):
        parameter.grad = scale * torch.randn_like(old)
    optimizer.step()
    for old, new in zip(before.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close((new - old).norm(), learning_rate * old.norm(), rtol=1e-9, atol=0)


@settings(max_examples=25, deadline=None)
@given(seeds, rates, st.floats(0.1, 1e4))
def test_the_scale_of_gradients_beyond_the_bound_does_not_matter(seed: int, learning_rate: float, scale: float) -> None:
    model, scaled = layers(seed), layers(seed)
    train(model, seed, learning_rate)
    train(scaled, seed, learning_rate, scale)
    for one, other in zip(model.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seeds, rates, st.floats(0.01, 100))
def test_weights_scaled_together_with_the_inverse_decay_stay_scaled(
    seed: int, learning_rate: float, scale: float
) -> None:
    model, scaled = layers(seed), layers(seed)
    with torch.no_grad():
        for parameter in scaled.parameters():
            parameter.mul_(scale)
    train(model, seed, learning_rate)
    train(scaled, seed, learning_rate, decay=0.05 / scale)
    for one, other in zip(model.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(one * scale, other, rtol=1e-7, atol=1e-9 * scale)
