"""BlurPool: blur before a strided convolution, so that what it skips does not alias. Surgery from Module to Module."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastbot.models.options import refusal

# Source: ffcv-imagenet's `apply_blurpool`; it keeps the stem, whose input has 3 channels, as it is.
MIN_CHANNELS = 16


class BlurredConv2d(nn.Module):
    """A fixed 3x3 binomial blur of each channel, then a convolution.

    State-dict keys are ffcv-imagenet's: the convolution's own under `conv.`, and `blur_filter` (C, 1, 3, 3).

    Args:
        conv: becomes a part of this; if its kernel is 1x1 its stride goes to the blur.

    Source: Zhang 2019, arXiv 1904.11486; ffcv-imagenet's `BlurPoolConv2d`.
    """

    blur_filter: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self._stride: tuple[int, ...] = (1, 1)
        if conv.kernel_size == (1, 1) and conv.padding == (0, 0):
            # It reads the blurred picture at its stride only: the same numbers without blurring the rest.
            self._stride, conv.stride = conv.stride, (1, 1)
        row = torch.tensor([1.0, 2.0, 1.0], device=conv.weight.device, dtype=conv.weight.dtype)
        self.register_buffer("blur_filter", (torch.outer(row, row) / 16).repeat(conv.in_channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of the blurred x (N, C, H, W); channels-last is kept."""
        blurred = functional.conv2d(x, self.blur_filter, stride=self._stride, padding=1, groups=self.conv.in_channels)
        out: Tensor = self.conv(blurred)
        return out


def with_blur_pool(model: nn.Module, name: str) -> nn.Module:
    """Blur before every `Conv2d` with a stride above 1 and at least 16 input channels.

    Args:
        model: changed in place.
        name: for the message.

    Returns:
        The same model. Pooling layers are left alone.

    Raises:
        ModelError: there is no such convolution.

    Source: ffcv-imagenet's `train_imagenet.py`.
    """
    found = [
        (parent, child_name, child)
        for parent in model.modules()
        for child_name, child in parent.named_children()
        if isinstance(child, nn.Conv2d) and max(child.stride) > 1 and child.in_channels >= MIN_CHANNELS
    ]
    if not found:
        raise refusal("blur_pool", name, f"has no strided convolution of {MIN_CHANNELS} input channels or more")
    for parent, child_name, child in found:
        setattr(parent, child_name, BlurredConv2d(child))
    return model
