from __future__ import annotations

import sys

import pytest
import torch
import torchvision

from fastbot.errors import ModelError
from fastbot.models.initialization import last_batch_norms
from fastbot.models.registry import RESNETS, build_model


def test_every_resnet_has_a_name() -> None:
    assert len(RESNETS) == 20
    assert {"resnet18v1", "resnet34b", "resnet50c", "resnet101d", "resnet152d"} <= set(RESNETS)


@pytest.mark.parametrize("name", ["resnet18d", "torchvision:resnet18", "timm:resnet18"])
def test_builds_with_the_asked_number_of_classes(name: str) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    model = build_model(name, num_classes=13)
    assert model.training
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 13)


@pytest.mark.parametrize("name", ["torchvision:inception_v3", "torchvision:googlenet"])
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
        ("quux", r"no model is named quux\. Allowed: resnet\{18,34,50,101,152\}\{v1,b,c,d\}"),
        ("torchvision:resnet55", r"no model is named torchvision:resnet55\. Did you mean .*torchvision:resnet50"),
        ("torchvision:fasterrcnn_resnet50_fpn", r"Allowed: torchvision's image classifiers"),
        ("torch-vision:resnet50", r"torch-vision is not a model library\. Allowed: torchvision:NAME, timm:NAME"),
        ("torchvision:", r"no model is named torchvision:"),
    ],
)
def test_unknown_names_are_refused_with_what_is_allowed(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_model(name, num_classes=4)


@pytest.mark.parametrize("name", ["resnet5d0", "resnet50.a1_in1k", "hf-hub:timm/resnet18"])
def test_unknown_timm_names_and_weights_tags_are_refused(name: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(ModelError, match=rf"no model is named timm:{name}\..*timm\.list_models\(\)"):
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
