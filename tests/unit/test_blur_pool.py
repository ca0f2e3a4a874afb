from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor, nn

from fastbot.errors import ModelError
from fastbot.models.blur_pool import BlurredConv2d, with_blur_pool
from fastbot.models.registry import build_model

BINOMIAL = np.outer([1, 2, 1], [1, 2, 1]) / 16


def correlated(x: np.ndarray, conv: nn.Conv2d) -> np.ndarray:
    """Return a convolution layer's output (N, out, H, W) of x (N, in, H, W), in float64 by scipy."""
    weight = conv.weight.detach().double().numpy()
    pad, stride = conv.padding[0], conv.stride[0]
    assert isinstance(pad, int)
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    per_group = weight.shape[1]
    outputs = []
    for picture in padded:
        rows = []
        for out, kernels in enumerate(weight):
            first = out // (len(weight) // conv.groups) * per_group
            maps = picture[first : first + per_group]
            rows.append(sum(scipy.signal.correlate2d(m, k, "valid") for m, k in zip(maps, kernels, strict=True)))
        outputs.append(np.stack(rows))
    return np.stack(outputs)[:, :, ::stride, ::stride]


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(16, 3, 3, stride=2, padding=1, bias=False),
        nn.Conv2d(16, 3, 1, stride=2, bias=False),
        nn.Conv2d(16, 3, 1, stride=3, bias=False),
        nn.Conv2d(16, 16, 3, stride=2, padding=1, groups=16, bias=False),
    ],
)
@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
def test_outputs_are_those_of_scipy(conv: nn.Conv2d, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    stride = conv.stride[0]
    x = torch.randn(2, 16, *size, dtype=torch.float64)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    blurred = np.stack([[scipy.signal.convolve2d(m, BINOMIAL, "valid") for m in picture] for picture in padded])
    expected = correlated(blurred, conv)
    found = BlurredConv2d(conv.double())(x)
    conv.stride = (stride, stride)  # the case is used again
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-6)


def test_which_convolutions_are_blurred() -> None:
    model = with_blur_pool(build_model("resnet50b", 4), "resnet50b")
    blurred = {name for name, module in model.named_modules() if isinstance(module, BlurredConv2d)}
    # Stages 2 to 4: the 3x3 of the first block and its shortcut; the stem has 3 channels.
    assert blurred == {f"layer{i}.0.{part}" for i in (2, 3, 4) for part in ("conv2", "downsample.0")}


def test_keys_are_ffcv_imagenets() -> None:
    plain = build_model("resnet18b", 4).state_dict()
    blurred = build_model("resnet18b", 4, blur_pool=True).state_dict()
    assert blurred.keys() - plain.keys() == {
        f"layer{i}.0.{layer}.{key}"
        for i in (2, 3, 4)
        for layer in ("conv1", "downsample.0")
        for key in ("conv.weight", "blur_filter")
    }
    assert blurred["layer2.0.conv1.blur_filter"].shape == (64, 1, 3, 3)


def test_it_composes_with_initialization_and_learns() -> None:
    torch.manual_seed(0)
    expected = build_model("resnet18b", 4, "paper", zero_gammas=True).state_dict()
    torch.manual_seed(0)
    model = build_model("resnet18b", 4, "paper", zero_gammas=True, blur_pool=True)
    found = {key.replace(".conv.", "."): value for key, value in model.state_dict().items() if "blur" not in key}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_channels_last_is_kept() -> None:
    layer = BlurredConv2d(nn.Conv2d(16, 24, 3, stride=2, padding=1)).to(memory_format=torch.channels_last)
    out: Tensor = layer(torch.randn(2, 16, 9, 9).to(memory_format=torch.channels_last))
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_a_model_without_strides_is_refused() -> None:
    with pytest.raises(ModelError, match=r"model\.blur_pool: flat has no strided convolution of 16 .* Leave"):
        with_blur_pool(nn.Sequential(nn.Conv2d(3, 32, 3, stride=2), nn.Conv2d(32, 32, 3)), "flat")
