"""How weights start: functions from a model to the same model, changed in place.

They draw from torch's global generator: seed it, and call them before the model leaves the CPU, so that a run is
reproducible on every device. They apply by module type or structure, so they also work on torchvision's and timm's
models.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

_PRELU_SLOPE = 0.25  # MXNet's default, of a network with PReLU; GluonCV's networks have ReLU


def initialize_paper(model: nn.Module) -> nn.Module:
    """Draw weights as Bag of Tricks says: Xavier uniform over channel counts.

    Convolution and FC weights ~ U[-a, a], a = sqrt(6 / (d_in + d_out)), where d_in and d_out are numbers of
    *channels*: unlike `torch.nn.init.xavier_uniform_`, the kernel's area does not count. Biases are 0, batch norm
    gammas 1 and betas 0. Other layers are left alone.

    Args:
        model: changed in place.

    Returns:
        The same model.

    Source: BoT section 2.1. GluonCV's released code differs: see `initialize_gluoncv`.
    """
    for module in model.modules():
        if isinstance(module, _ConvNd):
            _fill_weight(module, bound=math.sqrt(6 / (module.in_channels + module.out_channels)))
        elif isinstance(module, nn.Linear):
            _fill_weight(module, bound=math.sqrt(6 / (module.in_features + module.out_features)))
        else:
            _reset_batch_norm(module)
    return model


def initialize_gluoncv(model: nn.Module) -> nn.Module:
    """Draw weights as GluonCV's code does: MXNet's `MSRAPrelu` with its defaults.

    Convolution and FC weights ~ N(0, v), v = 2 / (1 + 0.25^2) / ((fan_in + fan_out) / 2), where fans include the
    kernel's area; in a grouped convolution fan_in counts the channels of one group. Biases are 0, batch norm gammas 1
    and betas 0. Other layers are left alone.

    Args:
        model: changed in place.

    Returns:
        The same model.

    Source: `initializer.py` of MXNet 1.3, which `train_imagenet.py` of GluonCV uses; BoT's text says Xavier.
    """
    for module in model.modules():
        if isinstance(module, (_ConvNd, nn.Linear)):
            area = module.weight[0, 0].numel()
            fans = (module.weight.shape[0] + module.weight.shape[1]) * area
            nn.init.normal_(module.weight, std=math.sqrt(2 / (1 + _PRELU_SLOPE**2) / (fans / 2)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        else:
            _reset_batch_norm(module)
    return model


def initialize_kaiming(model: nn.Module) -> nn.Module:
    """Draw weights as torchvision's ResNets do: Kaiming normal, fan out.

    Convolution weights ~ N(0, 2 / (out_channels * kernel area)), batch norm gammas 1 and betas 0. Convolution
    biases and FC layers are left as they are (torch's default), as torchvision leaves them.

    Args:
        model: changed in place.

    Returns:
        The same model.

    Source: torchvision `models/resnet.py`; He et al., arXiv 1502.01852, equation 14.
    """
    for module in model.modules():
        if isinstance(module, _ConvNd):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        else:
            _reset_batch_norm(module)
    return model


def zero_gamma(model: nn.Module) -> nn.Module:
    """Set gamma to 0 in the batch norm that ends each residual branch, so that every block starts as the identity.

    Batch norms of shortcuts and of the stem keep their gamma. A residual block is recognized by its structure (see
    `last_batch_norms`). Note that timm's ResNets already start this way, torchvision's do not.

    Args:
        model: changed in place.

    Returns:
        The same model. Where it has no such block, nothing changes and a `UserWarning` says so: BoT applies its
        recipe to Inception-V3 and MobileNet too, which have none.

    Source: BoT section 3.1, "zero gamma".
    """
    found = list(last_batch_norms(model))
    if not found:
        warnings.warn(
            f"zero_gamma changed nothing: {type(model).__name__} has no residual block that ends in a batch norm "
            "(a block with `downsample` and `bn2` or `bn3`, as in ResNets). Take model.zero_gamma=false for this model",
            stacklevel=2,
        )
    for norm in found:
        nn.init.zeros_(norm.weight)
    return model


def last_batch_norms(model: nn.Module) -> Iterator[_BatchNorm]:
    """Yield the batch norm that ends the residual branch of each block of a ResNet.

    Such a block has a `downsample` attribute (None or a module) and ends in `bn3` (bottleneck) or `bn2` (basic):
    the names that torchvision, timm and fastbot share, also in ResNeXt, Wide and SE-ResNets.
    """
    for module in model.modules():
        norm = getattr(module, "bn3", getattr(module, "bn2", None))
        if hasattr(module, "downsample") and isinstance(norm, _BatchNorm) and norm.affine:
            yield norm


def _fill_weight(layer: _ConvNd | nn.Linear, bound: float) -> None:
    nn.init.uniform_(layer.weight, -bound, bound)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _reset_batch_norm(module: nn.Module) -> None:
    if isinstance(module, _BatchNorm) and module.affine:
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
