from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torchvision.ops import StochasticDepth

from fastbot.errors import ModelError
from fastbot.models.initialization import last_batch_norms
from fastbot.models.registry import RESNETS, build_model, names


def test_ours_are_the_resnets_and_the_papers_other_two() -> None:
    assert names() == [*RESNETS, "inception_v3", "mobilenet"]


def test_every_resnet_has_a_name() -> None:
    assert len(RESNETS) == 20
    assert {"resnet18v1", "resnet34b", "resnet50c", "resnet101d", "resnet152d"} <= set(RESNETS)


@pytest.mark.parametrize("name", ["resnet18d", "mobilenet", "torchvision:resnet18", "timm:resnet18"])
def test_builds_with_the_asked_number_of_classes(name: str) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    model = build_model(name, num_classes=13)
    assert model.training
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 13)


@pytest.mark.parametrize("name", ["inception_v3", "torchvision:inception_v3", "torchvision:googlenet"])
def test_models_with_auxiliary_heads_return_plain_logits_in_training(name: str) -> None:
    with torch.device("meta"):
        model = build_model(name, num_classes=5)
        logits = model(torch.empty(2, 3, 299, 299))
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (2, 5)


def test_options_are_applied() -> None:
    torch.manual_seed(3)
    model = build_model("resnet18d", 4, initialization="paper", zero_gammas=True)
    assert all(not norm.weight.any() for norm in last_batch_norms(model))
    assert model.get_parameter("layer1.0.conv1.weight").abs().max().item() == pytest.approx((6 / 128) ** 0.5, rel=1e-3)
    torch.manual_seed(3)
    default = build_model("torchvision:alexnet", 4).state_dict()
    torch.manual_seed(3)
    untouched = torchvision.models.alexnet(num_classes=4).state_dict()
    assert all(torch.equal(default[key], untouched[key]) for key in untouched)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50", r"no model is named resnet50\. Did you mean .*resnet50v1.* Allowed: .*paper's baseline"),
        ("resnet51d", r"Did you mean resnet50d"),
        ("quux", r"no model is named quux\. Allowed: resnet\{18,34,50,101,152\}\{v1,b,c,d\}, inception_v3, mobilenet"),
        ("mobilnet", r"no model is named mobilnet\. Did you mean mobilenet\?"),
        ("torchvision:resnet55", r"no model is named torchvision:resnet55\. Did you mean .*torchvision:resnet50"),
        ("torchvision:fasterrcnn_resnet50_fpn", r"Allowed: torchvision's image classifiers"),
        ("torch-vision:resnet50", r"torch-vision is not a model library\. Allowed: torchvision:NAME, timm:NAME"),
        ("torchvision:", r"no model is named torchvision:"),
    ],
)
def test_unknown_names_are_refused_with_what_is_allowed(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_model(name, num_classes=4)


@pytest.mark.parametrize("name", ["resnet5d0", "hf-hub:timm/resnet18"])
def test_unknown_timm_names_are_refused(name: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(ModelError, match=rf"no model is named timm:{name}\..*timm\.list_models\(\)"):
        build_model(f"timm:{name}", num_classes=4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50.a1_in1", r"Did you mean timm:resnet50\.a1_in1k, timm:resnet50\.a1h_in1k, "),
        ("resnt50.a1_in1k", r"Did you mean timm:resnet50\.a1_in1k, "),
        # No tag is like it: any of the same network.
        ("resnet50.zzz", r"Did you mean (timm:resnet50\.\w+, ){3}timm:resnet50\.\w+\? "),
        (
            "resnet50.a1_in1k",
            r"^timm:resnet50\.a1_in1k names trained weights, .* take timm:resnet50\. .*fastbot import",
        ),
    ],
)
def test_a_name_with_a_weights_tag_gets_the_nearest_tagged_names(name: str, message: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(ModelError, match=message):
        build_model(f"timm:{name}", num_classes=4)


def test_missing_timm_names_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.delitem(sys.modules, "fastbot.models.timm_models", raising=False)
    monkeypatch.delattr("fastbot.models.timm_models", raising=False)
    with pytest.raises(ModelError, match=r"model timm:resnet18 needs timm.*pip install timm"):
        build_model("timm:resnet18", num_classes=4)


@pytest.mark.parametrize("num_classes", [-1, 0, 1])
def test_a_classifier_needs_two_classes(num_classes: int) -> None:
    with pytest.raises(ModelError, match=rf"num_classes is {num_classes}, a classifier needs at least 2"):
        build_model("resnet18d", num_classes=num_classes)


# Szegedy et al. and GluonCV's model zoo: 23.83 M; timm's results table: 4.23 M.
@pytest.mark.parametrize(("name", "expected"), [("inception_v3", 23_834_568), ("mobilenet", 4_231_976)])
def test_parameter_counts(name: str, expected: int) -> None:
    with torch.device("meta"):
        model = build_model(name, 1000)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_inception_is_gluoncvs() -> None:
    with torch.device("meta"):
        model = build_model("inception_v3", 4)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.1)}
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.5]


def test_inception_with_its_auxiliary_head_returns_two_logits_in_training_only() -> None:
    with torch.device("meta"):
        model = build_model("inception_v3", 5, aux_head=True)
        images = torch.empty(2, 3, 299, 299)
        outputs = model(images)
    assert type(outputs) is tuple
    assert [logits.shape for logits in outputs] == [(2, 5), (2, 5)]
    assert model.eval()(images).shape == (2, 5)
    assert sum(parameter.numel() for parameter in model.AuxLogits.parameters()) > 0


def rates(model: nn.Module) -> set[float]:
    """Return the rates of everything that drops anything in a model."""
    modules = [module for module in model.modules() if isinstance(module, (nn.Dropout, StochasticDepth))]
    return {module.p for module in modules} | {getattr(m, "drop_prob", 0.0) for m in model.modules()} - {0.0}


@pytest.mark.parametrize("name", ["resnet18b", "mobilenet", "torchvision:mobilenet_v2"])
def test_dropout_is_before_the_classifier(name: str) -> None:
    model = build_model(name, 4, dropout=0.35)
    assert rates(model) == {0.35}


@pytest.mark.parametrize("name", ["resnet18b", "torchvision:convnext_tiny"])
def test_drop_path_reaches_the_last_block(name: str) -> None:
    assert max(rates(build_model(name, 4, drop_path=0.35))) == pytest.approx(0.35)


def test_no_drop_path_means_none_in_torchvisions_models_too() -> None:
    assert max(rates(torchvision.models.convnext_tiny())) == 0.1
    assert rates(build_model("torchvision:convnext_tiny", 4)) <= {0.0}


def test_timms_models_get_both() -> None:
    pytest.importorskip("timm")
    model = build_model("timm:resnet18", 4, drop_path=0.35, dropout=0.15)
    assert max(rates(model)) == pytest.approx(0.35)
    assert model.drop_rate == 0.15
    assert max(rates(build_model("timm:efficientnet_b0", 4, dropout=0.15, drop_path=0.3))) > 0.25


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mobilenet", {"drop_path": 0.1}, r"model\.drop_path: mobilenet has no residual branch"),
        ("inception_v3", {"drop_path": 0.1}, r"model\.drop_path: inception_v3 has no residual branch"),
        ("resnet18d", {"aux_head": True}, r"model\.aux_weight: resnet18d has no auxiliary head; inception_v3 has\."),
        ("mobilenet", {"aux_head": True}, r"model\.aux_weight: mobilenet has no auxiliary head"),
        ("torchvision:resnet18", {"dropout": 0.1}, r"model\.dropout: torchvision:resnet18 takes no dropout\. Leave"),
        ("torchvision:resnet18", {"drop_path": 0.1}, r"model\.drop_path: torchvision:resnet18 takes no stoch"),
        ("torchvision:swin_t", {"drop_path": 0.1}, r"model\.drop_path: torchvision:swin_t takes no stoch"),
        ("torchvision:inception_v3", {"aux_head": True}, r"model\.aux_weight: .* inception_v3 can have one"),
        ("timm:inception_v3", {"aux_head": True}, r"model\.aux_weight: timm:inception_v3 .* inception_v3 can have one"),
        ("timm:mobilenetv1_100", {"drop_path": 0.1}, r"model\.drop_path: timm:mobilenetv1_100 has no residual"),
        ("timm:inception_v4", {"drop_path": 0.1}, r"model\.drop_path: timm:inception_v4 takes no drop_path_rate"),
    ],
)
def test_what_a_model_cannot_honour_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    with pytest.raises(ModelError, match=message):
        build_model(name, 4, **options)
