from __future__ import annotations

import copy
import io
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from dispatched import Operations
from torch import nn

from fastbot.errors import ModelError, RecipeError
from fastbot.models.registry import build_model
from fastbot.optimizers import Lamb, lamb

# Operations of a step over one decaying and one spared group, whatever the number of parameters.
MOST_OPERATIONS = 40


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 32, 3), nn.BatchNorm2d(32), nn.Conv2d(32, 64, 1), nn.Conv2d(64, 8, 3))
    return model.to(memory_format=torch.channels_last)


def give_gradients(model: nn.Module, seed: int) -> None:
    """The same for every layout."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        gradient = torch.randn(parameter.shape, generator=generator)
        parameter.grad = torch.empty_like(parameter).copy_(gradient)


def steps(model: nn.Module, optimizer: Lamb, seeds: range) -> None:
    for seed in seeds:
        give_gradients(model, seed)
        optimizer.step()


def tensors(model: nn.Module, optimizer: Lamb) -> Iterator[torch.Tensor]:
    """Everything that a step may change for good."""
    yield from model.parameters()
    for state in optimizer.state.values():
        yield from state.values()
    yield from (group["step"] for group in optimizer.param_groups)


def bits(model: nn.Module, optimizer: Lamb) -> list[bytes]:
    return [bytes(tensor.detach().contiguous().numpy().data) for tensor in tensors(model, optimizer)]


def operations_of_a_step(model: nn.Module) -> Counter[str]:
    optimizer = lamb(model, 0.01)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(2.0), torch.tensor(0.0)  # type: ignore[attr-defined]
    optimizer.step()
    with Operations() as operations:
        optimizer.step()
    return operations.counts


def test_a_step_is_a_few_operations_for_any_number_of_parameters() -> None:
    small, large = (operations_of_a_step(build_model(name, 3)) for name in ("resnet18d", "resnet50d"))
    assert small == large
    assert large["aten._fused_adam_.default"] == 2  # one for each group
    assert large["aten._local_scalar_dense.default"] == 0  # nothing is read back
    assert large.total() <= MOST_OPERATIONS


@pytest.mark.gpu
def test_a_step_is_tens_of_kernels_and_never_waits_for_the_gpu() -> None:
    model = build_model("resnet50d", 1000).cuda().to(memory_format=torch.channels_last)
    optimizer = lamb(model, 0.01)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.found_inf = torch.zeros((), device="cuda")  # type: ignore[attr-defined]
    optimizer.step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        optimizer.step()
        torch.cuda.synchronize()
    assert 0 < sum(event.count for event in profile.key_averages() if event.device_type.name == "CUDA") < 100


@pytest.mark.parametrize("steps_before", [0, 3])
def test_an_overflow_changes_no_bit(steps_before: int) -> None:
    model = network()
    with torch.no_grad():
        model[0].weight[0, :2, 0, 0] = torch.tensor([-0.0, 0.0])  # type: ignore[operator, union-attr]
    optimizer = lamb(model, 0.1)
    steps(model, optimizer, range(steps_before))
    before = bits(model, optimizer)
    give_gradients(model, 9)
    model[2].weight.grad[0] = torch.nan  # type: ignore[index, union-attr]
    model[3].weight.grad[0] = torch.inf  # type: ignore[index, union-attr]
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(2.0), torch.tensor(1.0)  # type: ignore[attr-defined]
    optimizer.step()
    assert bits(model, optimizer) == before
    del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]
    steps(model, optimizer, range(1))
    assert all(now != then for now, then in zip(bits(model, optimizer), before, strict=True))


@pytest.mark.parametrize("at", [0, 3])
def test_resumes_bit_exactly(at: int) -> None:
    model = network()
    optimizer = lamb(model, 0.1)
    steps(model, optimizer, range(at))
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = network()
    resumed.load_state_dict(saved["model"])
    again = lamb(resumed, 0.5)
    again.load_state_dict(saved["optimizer"])
    steps(model, optimizer, range(at, 6))
    steps(resumed, again, range(at, 6))
    assert bits(resumed, again) == bits(model, optimizer)


@pytest.mark.parametrize("settings", [{"max_grad_norm": 0.25}, {"max_grad_norm": None}, {"trust_clip": True}])
def test_a_loaded_state_brings_its_settings(settings: dict[str, Any]) -> None:
    model, resumed, other = networks = [network() for _ in range(3)]
    with torch.no_grad():
        for each in networks:
            each[0].weight.mul_(100)  # type: ignore[index]  # a trust ratio above 1
    optimizer, again = lamb(model, 0.1, **settings), lamb(resumed, 0.1)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each, stepping in (model, optimizer), (resumed, again), (other, lamb(other, 0.1)):
        steps(each, stepping, range(2))
    assert bits(resumed, again) == bits(model, optimizer)
    assert not torch.equal(other[0].weight, model[0].weight)  # type: ignore[index]


def test_groups_with_bounds_of_their_own_are_refused() -> None:
    groups = [{"params": nn.Linear(3, 2).parameters(), "max_grad_norm": bound} for bound in (1.0, 2.0)]
    with pytest.raises(RecipeError, match=r"max_grad_norm is 2\.0 in one group .* and 1\.0 in the first: .*Give all"):
        Lamb(groups, 0.1)


def test_loaded_moments_take_the_layout_of_their_parameters() -> None:
    saved, resumed = network().to(memory_format=torch.contiguous_format), network()
    first, second = lamb(saved, 0.1), lamb(resumed, 0.1)
    steps(saved, first, range(2))
    resumed.load_state_dict(saved.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    steps(saved, first, range(2, 4))
    steps(resumed, second, range(2, 4))
    for one, other in zip(resumed.parameters(), saved.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_a_copy_goes_on_by_itself() -> None:
    model = network()
    optimizer = lamb(model, 0.1)
    steps(model, optimizer, range(2))
    twin, twin_optimizer = copy.deepcopy((model, optimizer))
    before = bits(model, optimizer)
    steps(twin, twin_optimizer, range(2, 4))
    assert bits(model, optimizer) == before
    steps(model, optimizer, range(2, 4))
    assert bits(twin, twin_optimizer) == bits(model, optimizer)


def test_parameters_without_a_gradient_stay_and_join_later() -> None:
    model, alone = network(), network()
    optimizer, reference = lamb(model, 0.1, max_grad_norm=None), lamb(alone[0], 0.1, max_grad_norm=None)  # type: ignore[index]
    give_gradients(model, 0)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for parameter in model[1:].parameters():  # type: ignore[index]
        parameter.grad = None
    give_gradients(alone, 0)
    optimizer.step()
    reference.step()
    assert torch.equal(model[0].weight, alone[0].weight)  # type: ignore[index]
    assert all(torch.equal(p, old) for p, old in list(zip(model.parameters(), before, strict=True))[2:])
    steps(model, optimizer, range(1, 2))
    assert not any(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_without_any_gradient_nothing_moves() -> None:
    model = network()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    lamb(model, 0.1).step()
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_a_closure_computes_the_gradients() -> None:
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()

    def closure() -> float:
        model(torch.ones(1, 3)).sum().backward()
        return 3.0

    assert lamb(model, 0.1).step(closure) == 3.0
    assert not torch.equal(model.weight, before)


def test_parameters_of_several_types_are_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3).double())
    with pytest.raises(ModelError, match=r"torch.float32 on cpu, torch.float64 on cpu.*one type on one device"):
        lamb(model, 0.1)
