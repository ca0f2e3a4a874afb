from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from dispatched import Operations
from torch import nn

from fastbot.build import precision_of, scoring_precision_of
from fastbot.errors import RecipeError
from fastbot.losses import CrossEntropy
from fastbot.models.registry import build_model
from fastbot.optimizers import nag
from fastbot.precision import Format, Precision, build_precision
from fastbot.recipe_files import load_recipe

CPU = torch.device("cpu")
FORMATS: tuple[Format, ...] = ("fp32", "bf16", "fp16")


@pytest.fixture(autouse=True)
def _restore_tf32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def train_step(
    precision: Precision, model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    with precision.autocast():
        loss = CrossEntropy(0.1)(model(images), labels, torch.ones(len(images), device=images.device))
    precision.backward(loss)
    precision.step(optimizer)
    return loss.detach()


@pytest.mark.parametrize("name", FORMATS)
def test_a_step_never_waits_for_the_device(name: Format) -> None:
    torch.manual_seed(0)
    model, precision = build_model("resnet18d", 3), build_precision(name, CPU, tf32=False)
    optimizer = nag(model, 0.01)
    images, labels = torch.randn(2, 3, 32, 32), torch.tensor([0, 2])
    for _ in range(2):
        with Operations() as operations:
            train_step(precision, model, optimizer, images, labels)
        assert operations.counts["aten._fused_sgd_.default"] > 0
        assert operations.counts["aten._local_scalar_dense.default"] == 0
        assert operations.counts["aten._amp_update_scale_.default"] == (name == "fp16")


def test_the_count_sees_a_synchronization() -> None:
    """Guard of the test above: with an optimizer that is not fused, torch's scaler reads a scalar in every step."""
    model, precision = nn.Linear(4, 3), build_precision("fp16", CPU, tf32=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=False)
    with Operations() as operations:
        train_step(precision, model, optimizer, torch.randn(2, 4), torch.tensor([0, 2]))
    assert operations.counts["aten._local_scalar_dense.default"] == 1


@pytest.mark.gpu
@pytest.mark.parametrize("name", FORMATS)
def test_a_step_never_waits_for_the_gpu(name: Format) -> None:
    device = torch.device("cuda")
    model = build_model("resnet18d", 3).to(device, memory_format=torch.channels_last)
    precision, optimizer = build_precision(name, device, tf32=True), nag(model, 0.01)
    images, labels = torch.randn(4, 3, 64, 64, device=device), torch.tensor([0, 2, 1, 1], device=device)
    train_step(precision, model, optimizer, images, labels)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        train_step(precision, model, optimizer, images, labels)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_autocast_computes_in_the_format_and_keeps_float32_parameters(name: Format, dtype: torch.dtype) -> None:
    model, precision = nn.Conv2d(3, 4, 3), build_precision(name, CPU, tf32=False)
    optimizer = nag(model, 0.1)
    with precision.autocast():
        out = model(torch.randn(1, 3, 8, 8))
    assert out.dtype == dtype
    precision.backward(out.float().square().mean())
    precision.step(optimizer)
    assert model.weight.dtype == torch.float32
    assert model.weight.grad is None


@pytest.mark.parametrize("name", FORMATS)
def test_a_step_equals_plain_sgd(name: Format) -> None:
    """Scaling by a power of two and unscaling is exact: with a float32 loss all formats take the same step."""
    torch.manual_seed(0)
    model = nn.Linear(8, 3)
    plain = copy.deepcopy(model)
    precision, optimizer = build_precision(name, CPU, tf32=False), nag(model, 0.1, weight_decay=0.01)
    reference = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    for _ in range(5):
        images = torch.randn(4, 8)
        precision.backward(model(images).square().mean())
        precision.step(optimizer)
        reference.zero_grad()
        plain(images).square().mean().backward()
        reference.step()
        torch.testing.assert_close(model.weight, plain.weight, rtol=1e-6, atol=1e-7)


def test_fp16_skips_an_overflow_halves_the_scale_and_goes_on() -> None:
    model, precision = nn.Linear(8, 3), build_precision("fp16", CPU, tf32=False)
    optimizer = nag(model, 0.1)
    before = model.weight.detach().clone()
    precision.backward(model(torch.randn(4, 8)).mean() * torch.inf)
    precision.step(optimizer)
    assert torch.equal(model.weight, before)
    assert precision.state_dict()["scale"] == 2.0**15
    precision.backward(model(torch.randn(4, 8)).square().mean())
    precision.step(optimizer)
    assert model.weight.isfinite().all()
    assert not torch.equal(model.weight, before)


def test_fp16_keeps_gradients_that_underflow_without_scaling() -> None:
    model = nn.Linear(8, 3, bias=False)
    images = torch.full((4, 8), 1e-4)
    found = {}
    for name in FORMATS:
        precision = build_precision(name, CPU, tf32=False)
        moved = copy.deepcopy(model)
        with precision.autocast():
            loss = (moved(images).float() * 1e-3).sum()
        precision.backward(loss)
        precision.step(nag(moved, 1.0, weight_decay=0.0))
        found[name] = (moved.weight - model.weight).detach()
    # 4e-7 * (1 + momentum) is below half's resolution; the loss scale carries it through the half backward pass.
    assert found["fp16"].abs().min() > 0
    torch.testing.assert_close(found["fp16"], found["fp32"], rtol=0.05, atol=0)


@pytest.mark.parametrize("name", FORMATS)
def test_state_moves_through_a_checkpoint(name: Format) -> None:
    model, first = nn.Linear(8, 3), build_precision(name, CPU, tf32=False)
    optimizer = nag(model, 0.1)
    first.backward(model(torch.randn(4, 8)).mean() * torch.inf)
    first.step(optimizer)
    first.backward(model(torch.randn(4, 8)).mean())
    first.step(optimizer)
    second = build_precision(name, CPU, tf32=False)
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()
    if name == "fp16":
        assert second.state_dict()["scale"] == 2.0**15
        assert second.state_dict()["_growth_tracker"] == 1


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_is_set_for_products_and_convolutions(tf32: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not tf32
    build_precision("fp32", CPU, tf32=tf32)
    assert torch.backends.cuda.matmul.allow_tf32 is tf32
    assert torch.backends.cudnn.allow_tf32 is tf32
    # torch.compile reads this; it raises once torch's two ways of setting TF32 have been mixed.
    assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")


def test_unknown_format_is_refused() -> None:
    with pytest.raises(RecipeError, match="precision is fp8: allowed are fp32, bf16, fp16"):
        build_precision("fp8", CPU, tf32=False)  # type: ignore[arg-type]


def test_fp16_on_a_cpu_is_warned_of() -> None:
    recipe = load_recipe("demo", ["precision.kind=fp16"])
    with pytest.warns(UserWarning, match=r"fp16 on a CPU.*precision\.kind=fp32"):
        precision_of(recipe, CPU)


@pytest.mark.parametrize(
    ("kind", "device", "scored_in"),
    [
        ("fp16", "cpu", "fp32"),
        ("bf16", "cpu", "bf16"),
        ("fp32", "cpu", "fp32"),
        pytest.param("fp16", "cuda", "fp16", marks=pytest.mark.gpu),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_network_is_scored_as_it_was_trained_but_of_fp16_on_a_cpu(kind: str, device: str, scored_in: str) -> None:
    recipe = load_recipe("demo", [f"precision.kind={kind}"])
    assert scoring_precision_of(recipe, torch.device(device)).name == scored_in
