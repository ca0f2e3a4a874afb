"""Targets of batches that mix with themselves. The pixels are mixed by the augmentation, from the same plan."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from pipelines.batch import BatchPlan
from pipelines.spec import Mix, NoMix
from pipelines.upload import upload


class Targets(Protocol):
    """Make what the loss compares with."""

    def __call__(self, labels: torch.Tensor, plan: BatchPlan) -> torch.Tensor:
        """Return the targets of a batch; `labels` is not changed.

        Args:
            labels: int64 (n,) in [0, num_classes), on the device.
            plan: n rows.

        Returns:
            `labels` itself where nothing mixes, or float32 (n, num_classes) whose rows sum to 1.
        """
        ...


class LabelTargets:
    """Every picture keeps its own label."""

    def __call__(self, labels: torch.Tensor, plan: BatchPlan) -> torch.Tensor:
        """Return `labels` itself."""
        return labels


class MixedTargets:
    """Each row's label with the share lam, its partner's with the rest.

    Args:
        num_classes: K, the width of the targets.
        device: where labels are.

    Source: BoT section 5.4; Zhang et al. 2018; Yun et al. 2019.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self._num_classes = num_classes
        self._device = device

    def __call__(self, labels: torch.Tensor, plan: BatchPlan) -> torch.Tensor:
        """Return float32 (n, K), without waiting for the device."""
        # One copy brings both: lam travels as its bits.
        packed = upload(np.stack([plan.partner.astype(np.int32), plan.lam.view(np.int32)]), self._device)
        partner, lam = packed[0], packed[1].view(torch.float32)[:, None]
        targets = torch.zeros(len(labels), self._num_classes, device=self._device)
        targets.scatter_(1, labels[:, None], lam)
        return targets.scatter_add_(1, labels.index_select(0, partner)[:, None], 1 - lam)


def build_targets(mix: Mix, num_classes: int, device: torch.device) -> Targets:
    """Return what makes the targets of a spec's mixing.

    Args:
        mix: from the data spec.
        num_classes: width of mixed targets.
        device: where labels are.
    """
    return LabelTargets() if isinstance(mix, NoMix) else MixedTargets(num_classes, device)
