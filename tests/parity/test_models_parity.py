"""Our ResNets against torchvision's and timm's, with weights copied both ways by state dict."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from fastbot.models.registry import build_model

timm = pytest.importorskip("timm")

# Odd sizes reach the ceil_mode of the pooled shortcut; 65 -> 33 -> 17 -> 9 -> 5 -> 3.
IMAGE_SIZE = (65, 49)


def strided_first(model: nn.Module) -> nn.Module:
    """Turn torchvision's ResNet-B into v1 by swapping strides: what the paper's baseline does."""
    for module in model.modules():
        if isinstance(module, torchvision.models.resnet.Bottleneck):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride
    return model


TORCHVISION = {
    "resnet18v1": lambda: torchvision.models.resnet18(num_classes=7),
    "resnet18b": lambda: torchvision.models.resnet18(num_classes=7),
    "resnet34b": lambda: torchvision.models.resnet34(num_classes=7),
    "resnet50b": lambda: torchvision.models.resnet50(num_classes=7),
    "resnet50v1": lambda: strided_first(torchvision.models.resnet50(num_classes=7)),
    "resnet101v1": lambda: strided_first(torchvision.models.resnet101(num_classes=7)),
}
TIMM = ("resnet50c", "resnet18d", "resnet34d", "resnet50d", "resnet101d", "resnet152d")
NAMES = [
    pytest.param(name, marks=pytest.mark.slow if "101" in name or "152" in name else ())
    for name in (*TORCHVISION, *TIMM)
]


def peer(name: str) -> nn.Module:
    """Build the other library's model of one of our names."""
    torch.manual_seed(0)
    return disturbed(TORCHVISION[name]() if name in TORCHVISION else timm.create_model(name, num_classes=7))


def disturbed(model: nn.Module) -> nn.Module:
    """Return the model with batch norm parameters that are not all alike."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_outputs_equal_with_copied_weights(name: str) -> None:
    theirs, ours = peer(name), build_model(name, num_classes=7)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, *IMAGE_SIZE)
    for training in (False, True):
        ours.train(training)
        theirs.train(training)
        with torch.no_grad():
            expected = theirs(images)
            assert expected.abs().max() > 0.01
            torch.testing.assert_close(ours(images), expected, atol=1e-5, rtol=1e-5)
    # Training mode moved the running statistics of both: momentum and epsilon agree too.
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, atol=1e-5, rtol=1e-5, msg=key)


def test_mobilenet_equals_timms_with_its_relu6_replaced() -> None:
    torch.manual_seed(0)
    theirs, ours = (
        disturbed(timm.create_model("mobilenetv1_100", num_classes=7, act_layer="relu")),
        build_model("mobilenet", 7),
    )
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = 3 * torch.randn(2, 3, *IMAGE_SIZE)
    for training in (False, True):
        with torch.no_grad():
            expected = theirs.train(training)(images)
            assert expected.abs().max() > 0.01
            torch.testing.assert_close(ours.train(training)(images), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["resnet18d", "resnet50d"])
def test_stochastic_depth_draws_and_scales_as_timms_does(name: str) -> None:
    torch.manual_seed(0)
    theirs = disturbed(timm.create_model(name, num_classes=7, drop_path_rate=0.6))
    ours = build_model(name, 7, drop_path=0.6)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(4, 3, *IMAGE_SIZE)
    outputs = []
    for model in (theirs, ours):
        torch.manual_seed(5)
        outputs.append(model(images))
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), atol=1e-5, rtol=1e-5)


def test_dropout_draws_as_timms_does() -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("resnet18d", num_classes=7, drop_rate=0.5)
    ours = build_model("resnet18d", 7, dropout=0.5)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(4, 3, *IMAGE_SIZE)
    outputs = []
    for model in (theirs, ours):
        torch.manual_seed(5)
        outputs.append(model(images))
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-5, rtol=1e-5)


def test_inception_equals_timms() -> None:
    torch.manual_seed(0)
    ours = disturbed(build_model("inception_v3", 7, dropout=0.0))
    theirs = timm.create_model("inception_v3", num_classes=7, aux_logits=False)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = torch.randn(2, 3, 79, 91)
    with torch.no_grad():
        expected = theirs(images)
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(ours(images), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["resnet50b", "resnet50d"])
def test_weights_move_back(name: str) -> None:
    theirs, ours = peer(name), build_model(name, num_classes=7)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = torch.randn(1, 3, *IMAGE_SIZE)
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(images), ours.eval()(images), atol=1e-5, rtol=1e-5)


def test_gradients_equal_with_copied_weights() -> None:
    theirs, ours = peer("resnet18d"), build_model("resnet18d", num_classes=7)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, *IMAGE_SIZE)
    for model in (theirs, ours):
        model.eval()(images).square().sum().backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-4, rtol=1e-4, msg=name)
