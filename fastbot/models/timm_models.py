"""timm's models. The one module that needs timm (`pip install timm`); import it on demand."""

from __future__ import annotations

from typing import cast

import timm
from torch import nn


def names() -> list[str]:
    """Return the names of timm's architectures, without weights tags: nothing pretrained is loaded here."""
    return cast(list[str], timm.list_models())


def create(name: str, num_classes: int) -> nn.Module:
    """Build a model with random weights."""
    return cast(nn.Module, timm.create_model(name, pretrained=False, num_classes=num_classes))
