from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from fastbot.optimizers import adamw, parameter_groups, set_learning_rate


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)).to(
        memory_format=torch.channels_last
    )


def give_gradients(model: nn.Module, seed: int, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        gradient = torch.randn(parameter.shape, generator=generator)
        parameter.grad = torch.empty_like(parameter).copy_(gradient * scale)


def test_equals_torchs_plain_loop_with_a_loss_scale_and_skipped_steps() -> None:
    model, plain = network(), network()
    ours = adamw(model, 1.0, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1)
    theirs = torch.optim.AdamW(
        parameter_groups(plain, 0.1, bias_decay=False), betas=(0.8, 0.99), eps=1e-6, foreach=False, fused=False
    )
    for step in range(20):
        for optimizer in (ours, theirs):
            set_learning_rate(optimizer, 0.01 * (1 - step / 30))
        give_gradients(model, step, scale=512.0)
        give_gradients(plain, step)
        overflow = step in (0, 5)
        ours.grad_scale, ours.found_inf = torch.tensor(512.0), torch.tensor(float(overflow))  # type: ignore[attr-defined]
        if overflow:
            model[0].weight.grad.fill_(torch.inf)  # type: ignore[operator, union-attr]
        else:
            theirs.step()
        ours.step()
    for before, one, other in zip(network().parameters(), model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        assert not torch.equal(one, before)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("at", [0, 3])
def test_resumes_bit_exactly_from_either_layout(at: int, layout: torch.memory_format) -> None:
    model = network().to(memory_format=layout)
    optimizer = adamw(model, 0.1)

    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, seeds: range) -> None:
        for seed in seeds:
            give_gradients(model, seed)
            optimizer.step()

    steps(model, optimizer, range(at))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    resumed = copy.deepcopy(model).to(memory_format=torch.channels_last)
    again = adamw(resumed, 0.5)
    again.load_state_dict(torch.load(file, weights_only=True))
    steps(model, optimizer, range(at, 6))
    steps(resumed, again, range(at, 6))
    for one, other in zip(resumed.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)
