"""What the augmentation benchmark measures: specs, and what other libraries call the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torchvision.transforms import v2

from benchmarks.rungs.plan import RSB
from pipelines.batch import BatchPlan
from pipelines.spec import ContrastJitter, CutMix, DataSpec, HsvJitter, Mixup, MixupCutMix, RandomErasing

NUM_CLASSES = 1000
Step = Callable[[torch.Tensor, BatchPlan], torch.Tensor]

# `ColorJitter`'s arguments. A hue shift of up to 0.2 turns is what scaling by 0.6 to 1.4 does to hue 0.5.
HSV = {"hue": 0.2, "saturation": 0.4, "brightness": 0.4}
CONTRAST = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4}


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is measured.

    Attributes:
        spec: with batch size and crop size left as they are.
        jitter: `ColorJitter`'s arguments; RandAugment goes without.
        train: False only normalizes.
        last: the last step in eager PyTorch, for the case "then torch"; None where there is none.
        mix: of torchvision; passes labels along.
    """

    spec: DataSpec
    jitter: dict[str, float]
    train: bool = True
    last: Step | None = None
    mix: v2.Transform | None = None


def _blend(images: torch.Tensor, plan: BatchPlan) -> torch.Tensor:
    lam = torch.tensor(plan.lam, dtype=images.dtype, device=images.device)[:, None, None, None]
    return torch.lerp(images.flip(0), images, lam)


def _cut(images: torch.Tensor, plan: BatchPlan) -> torch.Tensor:
    """Paste one rectangle for the batch, which is how the spec draws it."""
    top, left, height, width = plan.cut[0].tolist()
    inside = (..., slice(top, top + height), slice(left, left + width))
    images[inside] = images.flip(0)[inside]
    return images


def _erase(images: torch.Tensor, plan: BatchPlan) -> torch.Tensor:
    for image, (top, left, height, width) in zip(images, plan.erase.tolist(), strict=True):
        image[:, top : top + height, left : left + width].normal_()
    return images


def scenarios(batch_size: int) -> dict[str, Scenario]:
    """Return what is measured, by title.

    Args:
        batch_size: one group of it mixes.
    """
    mixup = Mixup(group=batch_size)
    cutmix = CutMix(group=batch_size, draw="batch")
    erasing = RandomErasing(probability=0.25)
    rsb = RSB.model_copy(update={"mix": MixupCutMix(group=batch_size)})
    either = v2.RandomChoice([v2.MixUp(alpha=0.1, num_classes=NUM_CLASSES), v2.CutMix(num_classes=NUM_CLASSES)])
    return {
        "hsv": Scenario(DataSpec(), HSV),
        "contrast": Scenario(DataSpec(jitter=ContrastJitter()), CONTRAST),
        "normalize": Scenario(DataSpec(jitter=HsvJitter()), HSV, train=False),
        "mixup": Scenario(DataSpec(mix=mixup), HSV, last=_blend, mix=v2.MixUp(alpha=0.2, num_classes=NUM_CLASSES)),
        "cutmix": Scenario(DataSpec(mix=cutmix), HSV, last=_cut, mix=v2.CutMix(num_classes=NUM_CLASSES)),
        "erasing": Scenario(DataSpec(erasing=erasing), HSV, last=_erase),
        "rsb": Scenario(rsb, {}, mix=either),
    }
