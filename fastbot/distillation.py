"""Knowledge distillation: a teacher's softened predictions of the same pictures are a target too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastbot.criteria import Criterion, Output
from fastbot.losses import weighted_mean
from pipelines.batch import Batch
from pipelines.spec import Rgb


@dataclass(frozen=True, slots=True)
class Normalization:
    """How pixels of 0 to 255 become a network's input: (x - mean) / std for each channel."""

    mean: Rgb
    std: Rgb


class Renormalization(nn.Module):
    """Turn images normalized in one way into the same images normalized in another, by one multiply-add.

    x' = (x * std_s + mean_s - mean_t) / std_t = x * (std_s / std_t) + (mean_s - mean_t) / std_t.

    Args:
        source: what images carry.
        target: what they shall carry.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, source: Normalization, target: Normalization) -> None:
        super().__init__()
        mean_s, std_s, mean_t, std_t = (
            torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)
            for values in (source.mean, source.std, target.mean, target.std)
        )
        self.register_buffer("scale", (std_s / std_t).float(), persistent=False)
        self.register_buffer("shift", ((mean_s - mean_t) / std_t).float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return new float32 images (N, 3, H, W), in the memory format of `images`."""
        return torch.addcmul(self.shift, images, self.scale)


class Teacher(nn.Module):
    """A trained network that is only asked: always in evaluation mode, and without gradients.

    It sees the images that the student sees, at their size, whatever size it was trained at. A network that takes one
    size only refuses another one itself.

    Args:
        network: from images (N, 3, H, W) to logits. It is changed: moved, frozen, laid out as channels-last, and for a
            half `dtype` its convolutions and linear layers keep their weights in that type, to which autocast would
            otherwise convert them in every forward pass.
        device: where batches are.
        dtype: what the forward pass computes in, whatever the step around it does; a half one through autocast.
        trained_with: the normalization that the network was trained with.
        given: the normalization that images carry.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
        trained_with: Normalization,
        given: Normalization,
    ) -> None:
        super().__init__()
        same = trained_with == given
        self.network = network
        self._renormalize = nn.Identity() if same else Renormalization(source=given, target=trained_with)
        self._device_type, self._dtype = device.type, dtype
        self.to(device).to(memory_format=torch.channels_last)
        self.requires_grad_(False).train()
        for module in network.modules():
            # Exactly these: a subclass may compute with its weights first, as weight standardization does.
            if type(module) in (nn.Conv2d, nn.Linear):
                module.to(dtype)

    def train(self, mode: bool = True) -> Teacher:
        """Stay in evaluation mode, whatever `mode` is: batch norm neither uses nor updates a batch's statistics."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return float32 logits (N, K) of images (N, 3, H, W) of any floating type, which are left as they are."""
        with torch.autocast(self._device_type, self._dtype, enabled=self._dtype != torch.float32):
            logits: Tensor = self.network(self._renormalize(images).to(self._dtype))
        return logits.float()


class Distilled:
    """A criterion, plus the cross entropy against a teacher's softened predictions.

    `hard_weight * hard + soft_weight * T ** 2 * CE(softmax(r / T), softmax(z / T))`, with r the teacher's logits and z
    the student's. It is the cross entropy, not the divergence of Kullback and Leibler, which has the same gradient and
    is smaller by the entropy of the teacher's predictions. T squared keeps the gradient's size, which softening divides
    by it. The paper weighs both terms by 1; GluonCV's code by 0.5, which halves the step.

    Args:
        hard: the criterion against the labels.
        teacher: from images to logits; see `Teacher`.
        temperature: T.
        hard_weight, soft_weight: of the two terms.

    Source: BoT section 5.3, equation 6; Hinton et al., arXiv 1503.02531.
    """

    def __init__(
        self,
        hard: Criterion,
        teacher: Callable[[Tensor], Tensor],
        temperature: float = 20.0,
        hard_weight: float = 1.0,
        soft_weight: float = 1.0,
    ) -> None:
        self._hard, self._teacher, self._temperature = hard, teacher, temperature
        self._hard_weight, self._soft_weight = hard_weight, soft_weight * temperature**2

    def __call__(self, output: Output, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the sum, and the student's logits."""
        hard, logits = self._hard(output, batch)
        softened = F.softmax(self._teacher(batch.images) / self._temperature, dim=1)
        rows = F.cross_entropy(logits.float() / self._temperature, softened, reduction="none")
        return self._hard_weight * hard + self._soft_weight * weighted_mean(rows, batch.weight), logits
