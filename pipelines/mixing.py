"""Mixing of a batch with itself: images and targets by one plan, so that they cannot fall out of step."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from pipelines import spec
from pipelines.batch import BatchPlan
from pipelines.recycling import RecycledMemory
from pipelines.upload import upload


class Mix(Protocol):
    """Blend each picture and its target with another's."""

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, plan: BatchPlan
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images and targets; the inputs are not changed.

        Args:
            images: float (n, 3, H, W), channels-last, on the device.
            labels: int64 (n,) in [0, num_classes), on the device.
            plan: n rows.

        Returns:
            Images of the same shape, type and memory format; targets as the loss takes them.
        """
        ...


class NoMix:
    """Every picture keeps its own label: images and labels pass through untouched."""

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, plan: BatchPlan
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the same two tensors."""
        return images, labels


class Mixup:
    """Blend whole pictures: row k becomes lam[k] * row k + (1 - lam[k]) * row partner[k].

    For a half type, lam is rounded to that type where it multiplies pixels (as pixels themselves are); targets keep
    it in float32.

    Args:
        num_classes: K, the width of the targets.
        device: where images and labels are.

    Source: BoT section 5.4; Zhang et al. 2018.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self._num_classes = num_classes
        self._device = device
        self._memory = RecycledMemory()

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, plan: BatchPlan
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mixed images, and float32 (n, K) targets whose rows sum to 1."""
        partner, lam = self._upload(plan)
        return self._images(images, partner, lam), self._targets(labels, partner, lam)

    def _upload(self, plan: BatchPlan) -> tuple[torch.Tensor, torch.Tensor]:
        """Bring partner (int32) and lam (float32) to the device in one copy: lam travels as its bits."""
        packed = upload(np.stack([plan.partner.astype(np.int32), plan.lam.view(np.int32)]), self._device)
        return packed[0], packed[1].view(torch.float32)

    def _images(self, images: torch.Tensor, partner: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
        pictures = images.permute(0, 2, 3, 1)
        rows = pictures.reshape(len(pictures), -1)  # a view: indexing images themselves would drop channels-last
        mixed = self._empty(rows.shape, rows.dtype)
        torch.index_select(rows, 0, partner, out=mixed)
        mixed.lerp_(rows, lam.to(rows.dtype)[:, None])
        return mixed.view(pictures.shape).permute(0, 3, 1, 2)

    def _empty(self, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
        if self._device.type == "cpu":
            return self._memory.empty(shape, dtype)
        return torch.empty(shape, dtype=dtype, device=self._device)

    def _targets(self, labels: torch.Tensor, partner: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
        targets = torch.zeros(len(labels), self._num_classes, device=labels.device)
        targets.scatter_(1, labels[:, None], lam[:, None])
        other = labels.index_select(0, partner)
        return targets.scatter_add_(1, other[:, None], 1 - lam[:, None])


def build_mix(mix: spec.Mix, num_classes: int, device: torch.device) -> Mix:
    """Return what carries out a spec's mixing.

    Args:
        mix: from the data spec.
        num_classes: width of mixed targets.
        device: where batches are.
    """
    match mix:
        case spec.NoMix():
            return NoMix()
        case spec.Mixup():
            return Mixup(num_classes, device)
