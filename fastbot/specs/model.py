"""The network."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from fastbot.specs.values import Switchable
from pipelines.spec import Factor, Frozen


class ModelSpec(Frozen):
    """Which network, how its weights start, and what is changed in it.

    Attributes:
        name: `resnet50d` and the like, `inception_v3`, `mobilenet`, `torchvision:NAME` or `timm:NAME`.
        init: `paper` (BoT: Xavier uniform by channel counts), `gluoncv` (its code's MSRAPrelu), `kaiming`
            (torchvision's fan-out normal), or `default` (what the model's own code does).
        zero_gamma: BoT section 3.1: gamma = 0 in the last batch norm of each residual branch.
        drop_path: stochastic depth: the probability that the last residual branch is dropped, for each sample; those
            before it linearly less, the first never.
        dropout: before the classifier; none leaves the model its own (0.5 in Inception-V3, none in ResNets).
        blur_pool: blur before every strided convolution of 16 channels or more, as FFCV's recipes do.
        aux_weight: Inception-V3: the weight of the loss of its auxiliary head; 0 builds none, as GluonCV does.
        bn_batch: the pictures a batch norm normalizes over in training: those of a micro-batch of one rank, or groups
            of so many inside it (the same groups on any number of ranks), or all of the step's (`sync`).
    """

    name: str = "resnet50v1"
    init: Literal["paper", "gluoncv", "kaiming", "default"] = "paper"
    zero_gamma: bool = False
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    dropout: Switchable[Annotated[float, Field(ge=0, lt=1)]] = None
    blur_pool: bool = False
    aux_weight: Factor = 0.0
    bn_batch: Literal["micro_batch", "sync"] | PositiveInt = "micro_batch"
