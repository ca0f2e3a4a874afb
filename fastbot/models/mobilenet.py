"""MobileNet 1.0 (v1) as Bag of Tricks trains it: plain ReLU, no dropout.

State-dict keys are those of timm's `mobilenetv1_100`, so weights move both ways; timm's activation is ReLU6 unless it
is created with `act_layer="relu"`.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from fastbot.models.initialization import initialize_kaiming

# (output channels, stride) of each block, in stages that begin where the stride is 2, as timm's keys do.
# Source: Howard et al. 2017, arXiv 1704.04861, table 1; GluonCV's `mobilenet1_0`.
STAGES: tuple[tuple[tuple[int, int], ...], ...] = (
    ((64, 1),),
    ((128, 2), (128, 1)),
    ((256, 2), (256, 1)),
    ((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    ((1024, 2), (1024, 1)),
)


class DepthwiseSeparable(nn.Module):
    """A 3x3 convolution of each channel on its own, then a 1x1 convolution; batch norm and ReLU after each."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv_pw = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out_channels, H / stride, W / stride) of x (N, in_channels, H, W)."""
        out = self.relu(self.bn1(self.conv_dw(x)))
        return cast(Tensor, self.relu(self.bn2(self.conv_pw(out))))


class MobileNet(nn.Module):
    """Classify pictures with MobileNet 1.0, 4.23 million parameters at 1000 classes.

    Weights start as those of our ResNets do; see `fastbot.models.initialization` for the paper's.

    Args:
        num_classes: width of the logits.
        dropout: before the classifier, in [0, 1).

    Source: Howard et al. 2017; BoT table 2. Outputs equal timm's with its ReLU6 replaced.
    """

    def __init__(self, num_classes: int = 1000, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.relu = nn.ReLU(inplace=True)
        stages, channels = [], 32
        for blocks in STAGES:
            stage = nn.Sequential()
            for out_channels, stride in blocks:
                stage.append(DepthwiseSeparable(channels, out_channels, stride))
                channels = out_channels
            stages.append(stage)
        self.blocks = nn.Sequential(*stages)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        self.classifier = nn.Linear(channels, num_classes)
        initialize_kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, num_classes) of images (N, 3, H, W); channels-last is kept throughout."""
        x = self.blocks(self.relu(self.bn1(self.conv_stem(images))))
        return cast(Tensor, self.classifier(self.dropout(self.avgpool(x).flatten(1))))
