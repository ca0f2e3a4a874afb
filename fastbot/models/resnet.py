"""ResNet 18 to 152 and the three tweaks of Bag of Tricks, section 4: ResNet-B, -C and -D.

A `Variant` says which tweaks are on; each tweak is one line marked `tweak B`, `tweak C` or `tweak D` below.
State-dict keys are those of torchvision (v1, B) and timm (C, D), so weights move both ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from fastbot.models.initialization import initialize_kaiming

Depth = Literal[18, 34, 50, 101, 152]


@dataclass(frozen=True, slots=True)
class Variant:
    """Which of the paper's three tweaks a ResNet has.

    Attributes:
        stride_on_3x3: tweak B, a bottleneck halves its input in the 3x3 convolution; without it in the first 1x1,
            which ignores three quarters of the input. Basic blocks begin with a 3x3 and are the same either way.
        deep_stem: tweak C, three 3x3 convolutions instead of one 7x7.
        pooled_shortcut: tweak D, a shortcut that halves its input averages it first, then a 1x1 of stride 1.

    Source: BoT section 4.1 and figure 2.
    """

    stride_on_3x3: bool
    deep_stem: bool
    pooled_shortcut: bool


VARIANTS = {
    "v1": Variant(stride_on_3x3=False, deep_stem=False, pooled_shortcut=False),
    "b": Variant(stride_on_3x3=True, deep_stem=False, pooled_shortcut=False),
    "c": Variant(stride_on_3x3=True, deep_stem=True, pooled_shortcut=False),
    "d": Variant(stride_on_3x3=True, deep_stem=True, pooled_shortcut=True),
}


def conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without bias (a batch norm follows), padded to keep the size at stride 1."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)


def shortcut(in_channels: int, out_channels: int, stride: int, variant: Variant) -> nn.Module:
    """Return the path around a block's convolutions: the identity where shapes allow it, else a projection."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if variant.pooled_shortcut:  # tweak D; ceil_mode matters on maps of odd size only
        pool = nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
        return nn.Sequential(pool, conv(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels))
    return nn.Sequential(conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


def stochastic_depth(rate: float) -> nn.Module:
    """Return what drops a residual branch, for each sample on its own, in training; kept ones grow by 1 / (1 - rate).

    Source: Huang et al. 2016, arXiv 1603.09382, as timm's `DropPath` (which divides by the keep probability).
    """
    return cast(nn.Module, StochasticDepth(rate, mode="row")) if rate > 0 else nn.Identity()


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (ResNet-18 and -34)."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, variant: Variant, drop_path: float = 0.0) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(in_channels, width, stride, variant)
        self.drop_path = stochastic_depth(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, width * expansion, H / stride, W / stride) of x (N, in_channels, H, W)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.drop_path(self.bn2(self.conv2(out)))
        out += self.downsample(x)
        return cast(Tensor, self.relu(out))


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 and a 1x1 convolution that widens four times, and a shortcut (ResNet-50 and deeper)."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, variant: Variant, drop_path: float = 0.0) -> None:
        super().__init__()
        stride_1x1, stride_3x3 = (1, stride) if variant.stride_on_3x3 else (stride, 1)  # tweak B
        self.conv1 = conv(in_channels, width, 1, stride_1x1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3, stride_3x3)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv(width, width * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(in_channels, width * self.expansion, stride, variant)
        self.drop_path = stochastic_depth(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, width * expansion, H / stride, W / stride) of x (N, in_channels, H, W)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.drop_path(self.bn3(self.conv3(out)))
        out += self.downsample(x)
        return cast(Tensor, self.relu(out))


Block = type[BasicBlock] | type[Bottleneck]

STAGES: dict[Depth, tuple[Block, tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


def stem(variant: Variant) -> nn.Module:
    """Return the first convolution(s), 3 to 64 channels at half the size; a batch norm and ReLU follow them."""
    if not variant.deep_stem:
        return conv(3, 64, 7, stride=2)
    return nn.Sequential(  # tweak C; stride 2 on the first only, as in figure 2b (the text says on two)
        *(conv(3, 32, 3, stride=2), nn.BatchNorm2d(32), nn.ReLU(inplace=True)),
        *(conv(32, 32, 3), nn.BatchNorm2d(32), nn.ReLU(inplace=True)),
        conv(32, 64, 3),
    )


def stage(
    block: Block, in_channels: int, width: int, stride: int, variant: Variant, drop_paths: Sequence[float]
) -> nn.Sequential:
    """Return one block for each rate of `drop_paths`; the first changes the size and the number of channels."""
    first = block(in_channels, width, stride, variant, drop_paths[0])
    rest = (block(width * block.expansion, width, 1, variant, rate) for rate in drop_paths[1:])
    return nn.Sequential(first, *rest)


def drop_path_rates(last: float, blocks: Sequence[int]) -> list[list[float]]:
    """Return each block's rate by stage: linear over all blocks of the network, from 0 in the first to `last`.

    Source: RSB's `drop-path`, as timm 0.5.4's `make_blocks`: rate * index / (blocks - 1).
    """
    rates = iter([last * index / (sum(blocks) - 1) for index in range(sum(blocks))])
    return [[next(rates) for _ in range(num_blocks)] for num_blocks in blocks]


class ResNet(nn.Module):
    """Classify pictures with a ResNet as Bag of Tricks defines it.

    No convolution has a bias. GluonCV's `resnet50_v1` has them in its 1x1 convolutions, where the batch norm that
    follows cancels them; neither the paper's parameter counts (table 5: 25 M) nor other libraries need them.
    Weights start as torchvision's: Kaiming normal, fan out; see `fastbot.models.initialization` for the paper's.

    Args:
        depth: 18, 34, 50, 101 or 152.
        variant: which tweaks are on, usually one of `VARIANTS`.
        num_classes: width of the logits.
        drop_path: stochastic depth of the last block, in [0, 1); see `drop_path_rates`.
        dropout: before the classifier, in [0, 1).

    Source: BoT sections 4.1 and 4.2, figures 1 and 2. Outputs equal torchvision's (B) and timm's (C, D).
    """

    def __init__(
        self, depth: Depth, variant: Variant, num_classes: int = 1000, drop_path: float = 0.0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        block, blocks = STAGES[depth]
        rates = drop_path_rates(drop_path, blocks)
        self.conv1 = stem(variant)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = stage(block, 64, 64, 1, variant, rates[0])
        self.layer2 = stage(block, 64 * block.expansion, 128, 2, variant, rates[1])
        self.layer3 = stage(block, 128 * block.expansion, 256, 2, variant, rates[2])
        self.layer4 = stage(block, 256 * block.expansion, 512, 2, variant, rates[3])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        self.fc = nn.Linear(512 * block.expansion, num_classes)
        initialize_kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, num_classes) of images (N, 3, H, W); channels-last is kept throughout."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return cast(Tensor, self.fc(self.dropout(self.avgpool(x).flatten(1))))
