from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from dispatched import Operations
from torch import nn

from fastbot import specs
from fastbot.clipping import AdaptiveClip, Clip, NoClip, NormClip, ValueClip, build_clip, classifier_names
from fastbot.errors import ModelError
from fastbot.models.registry import build_model
from fastbot.optimizers import nag
from fastbot.precision import build_precision

CLIPS: list[specs.ClipSpec] = [
    specs.NoClip(),
    specs.NormClip(max_norm=1e-3),
    specs.ValueClip(max_value=1e-4),
    specs.AdaptiveClip(factor=1e-3),
]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


@pytest.mark.parametrize(("spec", "kind"), list(zip(CLIPS, [NoClip, NormClip, ValueClip, AdaptiveClip], strict=True)))
def test_builds_what_the_recipe_names(spec: specs.ClipSpec, kind: type[Clip]) -> None:
    assert type(build_clip(spec, network())) is kind


@pytest.mark.parametrize("spec", CLIPS, ids=lambda spec: spec.kind)
@pytest.mark.parametrize("name", ["fp32", "fp16"])
def test_bounds_the_step_and_never_reads_back(spec: specs.ClipSpec, name: Any) -> None:
    model, precision = network(), build_precision(name, torch.device("cpu"), tf32=False)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer, clip = nag(model, 1.0, momentum=0.0, weight_decay=0.0, nesterov=False), build_clip(spec, model)
    with Operations() as operations:
        precision.backward(model(torch.ones(4, 8)).square().mean() * 100)
        precision.step(optimizer, clip)
    assert operations.counts["aten._local_scalar_dense.default"] == 0
    moves = [(new - old).detach() for new, old in zip(model.parameters(), before, strict=True)]
    assert all(move.abs().max() > 0 for move in moves)
    norm = torch.stack([move.norm() for move in moves]).norm()
    if isinstance(spec, specs.NormClip):
        assert norm == pytest.approx(1e-3, rel=1e-3)
    elif isinstance(spec, specs.ValueClip):
        assert max(move.abs().max() for move in moves) == pytest.approx(1e-4, rel=1e-2)
    elif isinstance(spec, specs.AdaptiveClip):
        bound = 1e-3 * before[0].norm(dim=1)
        assert (moves[0].norm(dim=1) <= bound * 1.001).all()
        assert moves[2].norm() > 1  # the classifier is left out
    else:
        assert norm > 1


@pytest.mark.parametrize("spec", CLIPS, ids=lambda spec: spec.kind)
def test_an_overflow_is_seen_through_the_clip(spec: specs.ClipSpec) -> None:
    """Bounded to finite values first, infinite gradients would pass for good ones."""
    model, precision = network(), build_precision("fp16", torch.device("cpu"), tf32=False)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer, clip = nag(model, 1.0), build_clip(spec, model)
    precision.backward(model(torch.ones(4, 8)).square().mean() * torch.inf)
    precision.step(optimizer, clip)
    assert all(torch.equal(new, old) for new, old in zip(model.parameters(), before, strict=True))
    assert precision.state_dict()["scale"] == 2.0**15


def test_agc_without_gradients_does_nothing() -> None:
    model = network()
    clip = AdaptiveClip(0.01, 1e-3, model.parameters())  # type: ignore[arg-type]
    clip(torch.amp.GradScaler("cpu", enabled=False), torch.optim.SGD(model.parameters()))
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18d", "fc"),
        ("inception_v3", "fc"),
        ("torchvision:mobilenet_v2", "classifier.1"),
        ("torchvision:convnext_tiny", "classifier.2"),
        ("timm:mobilenetv3_small_050", "classifier"),
    ],
)
def test_finds_the_classifier(name: str, expected: str) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    model = build_model(name, 4)
    assert classifier_names(model) == [expected]
    assert model.get_submodule(expected).out_features == 4


def test_finds_the_classifier_of_inception_beside_its_auxiliary_one() -> None:
    assert classifier_names(torchvision.models.Inception3(5, aux_logits=True, init_weights=False)) == ["fc"]


def test_finds_both_heads_of_a_distilled_model() -> None:
    class Distilled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head, self.head_dist = nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(4, 3)

        def get_classifier(self) -> tuple[nn.Module, nn.Module]:
            return self.head, self.head_dist

    assert classifier_names(Distilled()) == ["head", "head_dist"]


def test_a_model_without_a_classifier_is_named() -> None:
    model = torchvision.models.squeezenet1_1(num_classes=3)
    with pytest.raises(ModelError, match=r"clip\.classifier is false, and SqueezeNet has no fully connected layer"):
        build_clip(specs.AdaptiveClip(), model)
    assert isinstance(build_clip(specs.AdaptiveClip(classifier=True), model), AdaptiveClip)
