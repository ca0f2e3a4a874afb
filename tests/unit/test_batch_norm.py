from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn

from fastbot.distributed import joined
from fastbot.errors import ModelError, RecipeError
from fastbot.models.batch_norm import GroupedBatchNorm2d, SyncedBatchNorm2d, with_bn_batch
from fastbot.models.initialization import last_batch_norms

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def network() -> nn.Module:
    """Build a small double-precision network, the same each time, with batch norms of uneven parameters."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3, stride=2, bias=False),
        nn.BatchNorm2d(4, eps=1e-3, momentum=0.3),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4, 5),
    ).double()
    for norm in (model[1], model[4]):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    return model


def pictures(rows: int, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, 7, 7, dtype=torch.float64, generator=generator) + 2


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def statistics(model: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers() if "running" in name}


def in_groups(images: Tensor, num_groups: int, momenta: tuple[float, float] = (0.1, 0.3)) -> tuple[Tensor, ...]:
    """Train plain models on groups of rows one by one: the oracle. Returns logits, gradients and mean statistics."""
    logits = torch.empty(len(images), 5, dtype=torch.float64)
    sums: dict[str, Tensor] = {}
    tracked: dict[str, Tensor] = {}
    for group in range(num_groups):
        model = network()
        model[1].momentum, model[4].momentum = momenta
        out = model(images[group::num_groups])
        logits[group::num_groups] = out.detach()
        out.square().sum().backward()
        for name, gradient in gradients(model).items():
            sums[name] = sums.get(name, 0) + gradient
        for name, buffer in statistics(model).items():
            tracked[name] = tracked.get(name, 0) + buffer / num_groups
    return logits, sums, tracked


def assert_all_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-10, msg=name)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("group_size", [2, 4, 6])
def test_groups_are_normalized_as_batches_of_their_own(group_size: int, layout: torch.memory_format) -> None:
    images = pictures(12)
    logits, expected, tracked = in_groups(images, 12 // group_size)
    model = with_bn_batch(network(), group_size, 12, 1).to(memory_format=layout)
    out = model(images.contiguous(memory_format=layout))
    out.square().sum().backward()
    torch.testing.assert_close(out.detach(), logits)
    assert_all_close(gradients(model), expected)
    assert_all_close(statistics(model), tracked)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_reach_the_input_and_the_layout_is_kept(layout: torch.memory_format) -> None:
    norm = GroupedBatchNorm2d(2, 3, 1e-5, 0.1).double()
    x = pictures(6).contiguous(memory_format=layout).requires_grad_()
    out = norm(x)
    assert out.is_contiguous(memory_format=layout)
    out.pow(3).sum().backward()
    assert x.grad is not None
    for group in range(3):
        rows = x.detach()[group::3].clone().requires_grad_()
        nn.BatchNorm2d(3).double()(rows).pow(3).sum().backward()
        torch.testing.assert_close(x.grad[group::3], rows.grad)


@pytest.mark.parametrize(("world_size", "micro_batches"), [(2, 1), (4, 1), (1, 2), (2, 2), (3, 4), (6, 1)])
def test_training_is_the_same_on_any_number_of_ranks_and_micro_batches(world_size: int, micro_batches: int) -> None:
    """Ranks take positions in turns, micro-batches rows in turns; gradients add up over both."""
    group_size, images = 2, pictures(24)
    alone = with_bn_batch(network(), group_size, 24, 1)
    expected_logits = alone(images)
    expected_logits.square().sum().backward()
    logits, total, tracked = torch.empty_like(expected_logits), {}, {}
    rows = 24 // world_size // micro_batches
    for rank in range(world_size):
        model = with_bn_batch(network(), group_size, rows, world_size, micro_batches)
        for part in range(micro_batches):
            positions = torch.arange(24)[rank::world_size][part::micro_batches]
            out = model(images[positions])
            logits[positions] = out.detach()
            out.square().sum().backward()
        for name, gradient in gradients(model).items():
            total[name] = total.get(name, 0) + gradient
        for name, buffer in statistics(model).items():  # what Ranks.averaged_batch_norm_statistics does
            tracked[name] = tracked.get(name, 0) + buffer / world_size
    torch.testing.assert_close(logits, expected_logits.detach())
    assert_all_close(total, gradients(alone))
    if micro_batches == 1:
        assert_all_close(tracked, statistics(alone))
    for name, buffer in statistics(alone).items():  # micro-batches move them one after the other, as far in all
        torch.testing.assert_close(tracked[name], buffer, rtol=0.05, atol=0.02, msg=name)


def test_micro_batches_of_equal_statistics_move_them_as_far_as_one() -> None:
    images = pictures(4)
    one, three = with_bn_batch(network(), 2, 4, 1), with_bn_batch(network(), 2, 4, 1, micro_batches=3)
    whole = with_bn_batch(network(), 4, 4, 1, micro_batches=3)
    assert type(whole[1]) is nn.BatchNorm2d
    plain = network()
    plain(images)
    one(images)
    for _ in range(3):
        three(images)
        whole(images)
    assert_all_close(statistics(three), statistics(one))
    assert_all_close(statistics(whole), statistics(plain))


def test_evaluation_and_keys_are_those_of_plain_batch_norm() -> None:
    plain = network()
    plain(pictures(12))
    grouped = with_bn_batch(copy.deepcopy(plain), 4, 12, 1)
    assert list(grouped.state_dict()) == list(plain.state_dict())
    assert isinstance(grouped[1], GroupedBatchNorm2d)
    assert grouped[4].eps == 1e-3
    torch.testing.assert_close(grouped.eval()(pictures(5)), plain.eval()(pictures(5)))
    assert grouped[1].num_batches_tracked.item() == 1
    grouped.train()(pictures(12))
    assert grouped[1].num_batches_tracked.item() == 2


def test_parameters_and_modes_are_kept() -> None:
    from fastbot.models.registry import build_model  # here: the ranks below need not import torchvision

    model = build_model("resnet18d", 4, zero_gammas=True)
    model.layer1.eval()
    before = dict(model.named_parameters())
    buffers = dict(model.named_buffers())
    assert with_bn_batch(model, 4, 8, 1) is model
    assert all(parameter is before[name] for name, parameter in model.named_parameters())
    assert all(buffer is buffers[name] for name, buffer in model.named_buffers())
    found = list(last_batch_norms(model))
    assert len(found) == 8
    assert all(isinstance(norm, GroupedBatchNorm2d) and not norm.weight.any() for norm in found)
    assert not model.layer1[0].bn1.training
    assert model.layer2[0].bn1.training


@pytest.mark.parametrize(("bn_batch", "world_size"), [("micro_batch", 2), (12, 2), ("sync", 1)])
def test_what_plain_batch_norm_does_costs_nothing(bn_batch: str | int, world_size: int) -> None:
    model = network()
    modules = list(model.modules())
    assert with_bn_batch(model, bn_batch, 12, world_size) is model  # type: ignore[arg-type]
    assert all(now is then for now, then in zip(model.modules(), modules, strict=True))
    assert model[1].momentum == 0.1


def test_it_compiles_as_one_graph() -> None:
    layout = torch.channels_last
    images = pictures(12).contiguous(memory_format=layout)
    eager, model = (with_bn_batch(network(), 4, 12, 1).to(memory_format=layout) for _ in range(2))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for each in (eager, compiled):
        each(images).square().sum().backward()
    assert_all_close(gradients(model), gradients(eager))
    assert_all_close(statistics(model), statistics(eager))


def test_half_precision_images_keep_float32_statistics() -> None:
    norm = GroupedBatchNorm2d(4, 3, 1e-5, 0.1)
    x = pictures(8).float()
    expected = norm(x)
    mean = norm.running_mean.clone()
    norm.reset_running_stats()
    out = norm(x.bfloat16())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, atol=0.03, rtol=0.02)
    torch.testing.assert_close(norm.running_mean, mean, atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("bn_batch", [5, 24])
def test_a_size_that_does_not_divide_is_refused_with_those_that_do(bn_batch: int) -> None:
    message = rf"model.bn_batch is {bn_batch} and does not divide the 12 rows .* choose one of 2, 3, 4, 6, 12, "
    with pytest.raises(RecipeError, match=message):
        with_bn_batch(network(), bn_batch, 12, 1)


def test_sync_of_several_micro_batches_is_refused() -> None:
    with pytest.raises(RecipeError, match="micro_batches is 2: .* Set micro_batches to 1, or"):
        with_bn_batch(network(), "sync", 12, 1, micro_batches=2)


class Fancy(nn.BatchNorm2d):
    pass


@pytest.mark.parametrize("norm", [Fancy(3), nn.BatchNorm2d(3, affine=False), nn.BatchNorm1d(3)])
def test_other_batch_norms_are_refused(norm: nn.Module) -> None:
    with pytest.raises(ModelError, match=rf"model.bn_batch: Sequential has a {type(norm).__name__} \(0\)"):
        with_bn_batch(nn.Sequential(norm), 4, 12, 1)


def test_a_model_without_batch_norm_is_refused() -> None:
    with pytest.raises(ModelError, match="has no batch norm. Take model.bn_batch = micro_batch"):
        with_bn_batch(nn.Sequential(nn.Conv2d(3, 3, 1)), 4, 12, 1)


def _rank(rank: int, store: str, results: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store}
    with joined("cpu") as ranks:
        model = with_bn_batch(network(), "sync", 6, ranks.world_size)
        assert isinstance(model[1], SyncedBatchNorm2d)
        images = pictures(12)[rank::2].contiguous(memory_format=torch.channels_last).requires_grad_()
        logits = model(images)
        logits.square().sum().backward()
        assert images.grad is not None
        summed = {name: ranks.sum(gradient) for name, gradient in gradients(model).items()}
        found = {"logits": logits.detach(), "images": images.grad, "parameters": summed}
        evaluated = model.eval()(pictures(3))
        norm = SyncedBatchNorm2d(3, 1e-5, 0.1)
        half = norm(pictures(12)[rank::2].bfloat16())
        assert half.dtype == torch.bfloat16
        found |= {"half": half.detach(), "half_variance": norm.running_var}
        torch.save(found | {"statistics": statistics(model), "evaluated": evaluated.detach()}, f"{results}/{rank}.pt")


def test_synced_over_two_ranks_equals_plain_over_both(tmp_path: Path, unused_port: int) -> None:
    multiprocessing.spawn(_rank, (str(unused_port), str(tmp_path)), nprocs=2)  # type: ignore[no-untyped-call]
    plain, images = network(), pictures(12).requires_grad_()
    logits = plain(images)
    logits.square().sum().backward()
    assert images.grad is not None
    norm = nn.BatchNorm2d(3)  # in float32, of what bfloat16 has left of the pictures
    half = norm(pictures(12).bfloat16().float())
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found["logits"], logits.detach()[rank::2])
        torch.testing.assert_close(found["images"], images.grad[rank::2])
        assert_all_close(found["parameters"], gradients(plain))
        assert_all_close(found["statistics"], statistics(plain))
        torch.testing.assert_close(found["evaluated"], copy.deepcopy(plain).eval()(pictures(3)).detach())
        torch.testing.assert_close(found["half"].float(), half[rank::2].detach(), atol=0.02, rtol=0.01)
        torch.testing.assert_close(found["half_variance"], norm.running_var)


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.gpu
@pytest.mark.parametrize("layout", LAYOUTS)
def test_on_cuda_in_half_precision_groups_are_batches_of_their_own(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 32, 14, 14, device="cuda").half().contiguous(memory_format=layout).requires_grad_()
    norm, plain = GroupedBatchNorm2d(16, 32, 1e-5, 0.1).cuda(), nn.BatchNorm2d(32).cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = norm(x)
        out.float().pow(2).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert out.is_contiguous(memory_format=layout)
    for group in range(4):
        torch.testing.assert_close(out[group::4], plain(x[group::4]), atol=2e-3, rtol=2e-3)
