from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from fastbot import specs
from fastbot.models.registry import build_model
from fastbot.optimizers import Lamb, build_optimizer, nag, parameter_groups, set_learning_rate
from fastbot.schedules import scaled_learning_rate


@pytest.mark.parametrize(("batch_size", "expected"), [(256, 0.1), (1024, 0.4), (128, 0.05)])
def test_linear_scaling(batch_size: int, expected: float) -> None:
    assert scaled_learning_rate(batch_size) == pytest.approx(expected)


def test_equals_mxnets_nag_over_50_steps() -> None:
    """Against float64 numpy in MXNet's form, with a learning rate that changes every step."""
    rng = np.random.default_rng(0)
    layer = nn.Linear(6, 4, bias=False)
    w = layer.weight.detach().double().numpy().copy()
    mom = np.zeros_like(w)
    optimizer = nag(layer, learning_rate=0.1, momentum=0.9, weight_decay=0.01)
    for step in range(50):
        lr = 0.1 * (1 - step / 60)
        g = rng.standard_normal(w.shape).astype(np.float32)
        decayed = g + 0.01 * w
        mom = 0.9 * mom + decayed
        w = w - lr * (decayed + 0.9 * mom)
        layer.weight.grad = torch.from_numpy(g)
        set_learning_rate(optimizer, lr)
        optimizer.step()
        np.testing.assert_allclose(layer.weight.detach().numpy(), w, rtol=1e-4, atol=1e-5)
    assert np.abs(w).max() > 1


def test_fused_equals_torchs_plain_loop_on_channels_last_weights() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.Conv2d(32, 64, 1), nn.Conv2d(64, 64, 3))
    model.to(memory_format=torch.channels_last)
    plain = copy.deepcopy(model)
    ours = nag(model, 0.1, weight_decay=1e-2, bias_decay=False)
    theirs = torch.optim.SGD(
        parameter_groups(plain, 1e-2, bias_decay=False), lr=0.1, momentum=0.9, nesterov=True, foreach=False
    )
    for _ in range(3):
        before = [parameter.detach().clone() for parameter in model.parameters()]
        for one, other in zip(model.parameters(), plain.parameters(), strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        ours.step()
        theirs.step()
        for old, one, other in zip(before, model.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
            assert not torch.equal(one, old)


def decaying_and_spared(model: nn.Module) -> tuple[set[str], set[str]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decaying, spared = parameter_groups(model, weight_decay=0.5, bias_decay=False)
    assert (decaying["weight_decay"], spared["weight_decay"]) == (0.5, 0.0)
    return {names[id(p)] for p in decaying["params"]}, {names[id(p)] for p in spared["params"]}


@pytest.mark.parametrize("name", ["resnet50d", "torchvision:resnet50", "torchvision:mobilenet_v2", "timm:resnet50"])
def test_only_convolution_and_fc_weights_decay(name: str) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    model = build_model(name, 4)
    decaying, spared = decaying_and_spared(model)
    # In these models exactly the weights with more than one axis belong to convolutions and FC layers.
    assert decaying == {key for key, parameter in model.named_parameters() if parameter.ndim > 1}
    assert spared == {key for key, parameter in model.named_parameters() if parameter.ndim == 1}


def test_split_goes_by_type_and_not_by_name_or_shape() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Linear(3, 3)  # a layer that is named like a bias
            self.token = nn.Parameter(torch.zeros(1, 3))  # two axes, but no layer's weight
            self.frozen = nn.Linear(3, 3).requires_grad_(False)
            self.tied = self.bias
            self.attention = nn.MultiheadAttention(4, 2)

    decaying, spared = decaying_and_spared(Odd())
    assert decaying == {"bias.weight", "attention.in_proj_weight", "attention.out_proj.weight"}
    assert spared == {"bias.bias", "token", "attention.in_proj_bias", "attention.out_proj.bias"}


def test_bias_decay_is_one_group_over_everything() -> None:
    model = torchvision.models.resnet18()
    (group,) = parameter_groups(model, 1e-4, bias_decay=True)
    assert group["weight_decay"] == 1e-4
    assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]


def test_a_skipped_first_step_leaves_no_trace() -> None:
    """Fused SGD of torch allocates momentum uninitialized: a first step skipped for overflow must not expose that."""
    layer, clean = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
    clean.load_state_dict(layer.state_dict())
    optimizer, reference = nag(layer, 0.1), nag(clean, 0.1)
    layer.weight.grad = torch.full_like(layer.weight, torch.inf)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(2.0), torch.tensor(1.0)  # type: ignore[attr-defined]
    optimizer.step()
    del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]
    assert torch.equal(layer.weight, clean.weight)
    for one, steps in ((layer, optimizer), (clean, reference)):
        one.weight.grad = torch.ones_like(one.weight)
        steps.step()
    assert torch.equal(layer.weight, clean.weight)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_loaded_momentum_takes_the_layout_of_its_parameter(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    saved, resumed = nn.Conv2d(4, 5, 3), nn.Conv2d(4, 5, 3)
    resumed.load_state_dict(saved.state_dict())
    resumed.to(memory_format=torch.channels_last)
    saved.to(memory_format=layout)
    first, second = nag(saved, 0.1), nag(resumed, 0.1)
    gradient = torch.randn(5, 4, 3, 3)

    def step(layer: nn.Conv2d, optimizer: torch.optim.SGD) -> None:
        layer.weight.grad = torch.empty_like(layer.weight).copy_(gradient)
        optimizer.step()

    step(saved, first)
    resumed.load_state_dict(saved.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    step(saved, first)
    step(resumed, second)
    torch.testing.assert_close(resumed.weight, saved.weight, rtol=1e-6, atol=1e-6)


def test_plain_momentum_equals_numpys_over_20_steps() -> None:
    rng = np.random.default_rng(0)
    layer = nn.Linear(6, 4, bias=False)
    w = layer.weight.detach().double().numpy().copy()
    mom = np.zeros_like(w)
    optimizer = nag(layer, learning_rate=0.1, momentum=0.9, weight_decay=0.01, nesterov=False)
    for _ in range(20):
        g = rng.standard_normal(w.shape).astype(np.float32)
        mom = 0.9 * mom + g + 0.01 * w
        w = w - 0.1 * mom
        layer.weight.grad = torch.from_numpy(g)
        optimizer.step()
    np.testing.assert_allclose(layer.weight.detach().numpy(), w, rtol=1e-4, atol=1e-5)


OPTIMIZERS: list[tuple[specs.OptimizerSpec, type[torch.optim.Optimizer], dict[str, object]]] = [
    (specs.NagSpec(momentum=0.7, nesterov=False), torch.optim.SGD, {"momentum": 0.7, "nesterov": False}),
    (specs.AdamWSpec(betas=(0.8, 0.9), eps=1e-3), torch.optim.AdamW, {"betas": (0.8, 0.9), "eps": 1e-3}),
    (
        specs.LambSpec(betas=(0.8, 0.9), eps=1e-3, max_grad_norm=None, trust_clip=True),
        Lamb,
        {"betas": (0.8, 0.9), "eps": 1e-3, "max_grad_norm": None, "trust_clip": True},
    ),
]


@pytest.mark.parametrize(("spec", "kind", "expected"), OPTIMIZERS, ids=lambda item: getattr(item, "kind", None))
@pytest.mark.parametrize("bias_decay", [False, True])
def test_builds_what_the_recipe_names(
    spec: specs.OptimizerSpec, kind: type[torch.optim.Optimizer], expected: dict[str, object], bias_decay: bool
) -> None:
    spec = spec.model_copy(update={"weight_decay": 0.3, "bias_decay": bias_decay})
    optimizer = build_optimizer(spec, 0.123, nn.Linear(3, 2))
    assert type(optimizer) is kind
    assert [group["weight_decay"] for group in optimizer.param_groups] == ([0.3] if bias_decay else [0.3, 0.0])
    for group in optimizer.param_groups:
        assert group["lr"] == 0.123
        assert {key: group[key] for key in expected} == expected
