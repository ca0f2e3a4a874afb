from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from batches import random_batch
from dispatched import Operations
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from fastbot.criteria import Supervised, WithAuxiliaryHead
from fastbot.distillation import Distilled, Normalization, Renormalization, Teacher
from fastbot.losses import BinaryCrossEntropy, CrossEntropy
from pipelines.spec import BOT_MEAN, BOT_STD

CPU = torch.device("cpu")
N, K = 6, 5
BOT = Normalization(BOT_MEAN, BOT_STD)
HALVES = Normalization((127.5,) * 3, (127.5,) * 3)


def logits_of(seed: int) -> torch.Tensor:
    return 3 * torch.randn(N, K, generator=torch.Generator().manual_seed(seed))


class Constant:
    """A teacher that always says the same, and remembers what it was shown."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits
        self.shown: list[torch.Tensor] = []

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.shown.append(images)
        return self.logits


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8, K))


def teacher_of(net: nn.Module, dtype: torch.dtype = torch.float32, trained_with: Normalization = BOT) -> Teacher:
    return Teacher(net, CPU, dtype, trained_with, given=BOT)


def numpy_softmax(logits: torch.Tensor, temperature: float) -> NDArray[np.float64]:
    exponentials = np.exp(logits.double().numpy() / temperature)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("hard_weight", "soft_weight"), [(1.0, 1.0), (0.5, 0.5)])  # the paper's, GluonCV's
@pytest.mark.parametrize("temperature", [1.0, 20.0])
@pytest.mark.parametrize("mixed", [False, True])
def test_equation_6(mixed: bool, temperature: float, hard_weight: float, soft_weight: float) -> None:
    z, r = logits_of(0), logits_of(1)
    weight = torch.tensor([1.0, 1, 0, 1, 1, 0])
    batch = replace(random_batch(N, K, mixed=mixed), weight=weight)
    distilled = Distilled(Supervised(CrossEntropy()), Constant(r), temperature, hard_weight, soft_weight)
    loss, logits = distilled(z, batch)
    assert logits is z
    assert (loss.dtype, loss.shape) == (torch.float32, ())
    p = batch.targets.double().numpy() if mixed else np.eye(K)[batch.labels.numpy()]
    hard = -(p * np.log(numpy_softmax(z, 1))).sum(axis=1)
    soft = -(numpy_softmax(r, temperature) * np.log(numpy_softmax(z, temperature))).sum(axis=1)
    rows = hard_weight * hard + soft_weight * temperature**2 * soft
    assert loss.item() == pytest.approx((rows * weight.numpy()).sum() / 4, rel=1e-6)


def test_the_gradient_is_that_of_the_divergence_and_the_value_is_not() -> None:
    z, r, temperature = logits_of(0).requires_grad_(), logits_of(1), 20.0
    loss, _ = Distilled(Supervised(CrossEntropy()), Constant(r), temperature, hard_weight=0.0)(z, random_batch(N, K))
    student, teacher = F.log_softmax(z / temperature, dim=1), F.log_softmax(r / temperature, dim=1)
    divergence = temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    gradients = [torch.autograd.grad(value, z)[0] for value in (loss, divergence)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)
    entropy = -(teacher.exp() * teacher).sum(dim=1).mean()
    assert entropy > 1
    torch.testing.assert_close(loss - divergence, temperature**2 * entropy, rtol=1e-4, atol=0)


def test_a_teacher_sure_of_the_labels_is_cross_entropy() -> None:
    z, batch = logits_of(0), random_batch(N, K)
    sure = Constant(100.0 * F.one_hot(batch.labels, K))
    soft_only = Distilled(Supervised(CrossEntropy()), sure, temperature=1.0, hard_weight=0.0)
    torch.testing.assert_close(soft_only(z, batch)[0], F.cross_entropy(z, batch.labels))
    torch.testing.assert_close(
        Distilled(Supervised(CrossEntropy()), sure, 1.0, 0.5, 0.5)(z, batch)[0], F.cross_entropy(z, batch.labels)
    )


def test_it_adds_to_any_loss() -> None:
    z, batch, loss = logits_of(0), random_batch(N, K), BinaryCrossEntropy(target_threshold=0.2)
    alone = Distilled(Supervised(loss), Constant(logits_of(1)), hard_weight=0.0)(z, batch)[0]
    both = Distilled(Supervised(loss), Constant(logits_of(1)))(z, batch)[0]
    torch.testing.assert_close(both, alone + F.binary_cross_entropy_with_logits(z, F.one_hot(batch.labels, K).float()))


def test_an_auxiliary_head_learns_from_the_labels_alone() -> None:
    z, auxiliary, batch = logits_of(0), logits_of(2), random_batch(N, K)
    distilled = Distilled(Supervised(CrossEntropy()), Constant(logits_of(1)), hard_weight=0.5)
    loss, logits = WithAuxiliaryHead(distilled, CrossEntropy(), 0.3)((z, auxiliary), batch)
    assert logits is z
    torch.testing.assert_close(loss, distilled(z, batch)[0] + 0.3 * F.cross_entropy(auxiliary, batch.labels))
    # The other way round the head's loss is a part of the hard term.
    outside = Distilled(WithAuxiliaryHead(Supervised(CrossEntropy()), CrossEntropy(), 0.3), Constant(logits_of(1)))
    loss, logits = outside((z, auxiliary), batch)
    assert logits is z
    torch.testing.assert_close(
        loss,
        Distilled(Supervised(CrossEntropy()), Constant(logits_of(1)))(z, batch)[0]
        + 0.3 * F.cross_entropy(auxiliary, batch.labels),
    )


def test_the_teacher_is_shown_the_students_images_themselves() -> None:
    batch, teacher = random_batch(N, K, mixed=True), Constant(logits_of(1))
    Distilled(Supervised(CrossEntropy()), teacher)(logits_of(0), batch)
    assert len(teacher.shown) == 1
    assert teacher.shown[0] is batch.images


def test_the_network_gets_the_same_memory_when_nothing_needs_converting() -> None:
    net, batch, shown = network(), random_batch(), []
    net[0].register_forward_pre_hook(lambda module, inputs: shown.append(inputs[0]))
    teacher_of(net)(batch.images)
    assert shown[0].data_ptr() == batch.images.data_ptr()


def test_a_teacher_stays_frozen_and_in_evaluation_mode() -> None:
    net = network()
    before = copy.deepcopy(net.state_dict())
    teacher = teacher_of(net)
    student = nn.ModuleDict({"student": network(), "teacher": teacher})
    student.train()
    assert student["student"][1].training
    assert not any(module.training for module in teacher.modules())
    batch = random_batch()
    z = student["student"](batch.images)
    Distilled(Supervised(CrossEntropy()), teacher)(z, batch)[0].backward()
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.grad is not None for parameter in student["student"].parameters())
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)  # batch norm's statistics among them
    torch.testing.assert_close(teacher(batch.images), network().eval()(batch.images).detach())
    assert not teacher(batch.images).requires_grad


def test_nothing_is_drawn_at_random() -> None:
    teacher, batch = teacher_of(network()), random_batch()
    state = torch.get_rng_state()
    torch.testing.assert_close(teacher(batch.images), teacher(batch.images), rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_images_are_normalized_as_the_teacher_was_trained(layout: torch.memory_format) -> None:
    pixels = torch.randint(256, (2, 3, 16, 16), generator=torch.Generator().manual_seed(0))

    def normalized(how: Normalization) -> torch.Tensor:
        mean, std = (np.array(values)[:, None, None] for values in (how.mean, how.std))
        return torch.from_numpy((pixels.numpy() - mean) / std).float().contiguous(memory_format=layout)

    images = normalized(BOT)
    converted = Renormalization(source=BOT, target=HALVES)(images)
    assert converted.is_contiguous(memory_format=layout)
    torch.testing.assert_close(converted, normalized(HALVES), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(images, normalized(BOT), rtol=0, atol=0)
    net = network().eval()
    torch.testing.assert_close(
        teacher_of(net, trained_with=HALVES)(images), net(normalized(HALVES)), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("step", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("images", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_precision_is_its_own(dtype: torch.dtype, images: torch.dtype, step: torch.dtype) -> None:
    """The oracle is the network itself under autocast, whose weights stay float32 and are converted in every pass."""
    batch, net = random_batch(), network().eval()
    given = batch.images.to(images)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        expected = net(given.to(dtype)).float()
    teacher = teacher_of(copy.deepcopy(net), dtype)
    with torch.autocast("cpu", step, enabled=step != torch.float32):
        logits = teacher(given)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, rtol=0, atol=0)


def test_half_weights_are_converted_once_and_norms_stay_float32() -> None:
    net = network()
    assert isinstance(net[1], nn.BatchNorm2d)
    teacher = teacher_of(net, torch.bfloat16)
    assert {net[0].weight.dtype, net[6].weight.dtype} == {torch.bfloat16}
    assert net[1].running_var is not None
    assert {net[1].weight.dtype, net[1].running_var.dtype} == {torch.float32}
    images = random_batch().images.bfloat16()
    with Operations() as calls:
        teacher(images)
    # That of the logits; none of weights.
    assert calls.counts["aten._to_copy.default"] == 1


@pytest.mark.parametrize("trained_with", [BOT, HALVES])
def test_nothing_is_read_on_the_host(trained_with: Normalization) -> None:
    batch, teacher = random_batch(mixed=True), teacher_of(network(), trained_with=trained_with)
    student = network()
    criterion = Distilled(Supervised(BinaryCrossEntropy(target_threshold=0.2)), teacher)
    with Operations() as calls:
        criterion(student(batch.images), batch)[0].backward()
    assert calls.counts["aten.convolution.default"] == 2, "the student's and the teacher's"
    assert calls.counts["aten.convolution_backward.default"] == 1, "the student's alone"
    assert calls.counts["aten._local_scalar_dense.default"] == 0


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_distilled_step_never_synchronizes_on_a_gpu(dtype: torch.dtype) -> None:
    device = torch.device("cuda", 0)
    cpu = random_batch()
    images = cpu.images.to(device, torch.float16)
    batch = replace(
        cpu, images=images, **{name: getattr(cpu, name).to(device) for name in ("labels", "targets", "weight")}
    )
    student = network().to(device)
    criterion = Distilled(Supervised(CrossEntropy()), Teacher(network(), device, dtype, HALVES, given=BOT))
    for attempt in range(2):  # the second one strictly: the first may choose algorithms
        torch.cuda.set_sync_debug_mode("error" if attempt else "default")
        try:
            with torch.autocast("cuda", torch.float16):
                loss, _ = criterion(student(batch.images), batch)
            loss.backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert loss.isfinite()
