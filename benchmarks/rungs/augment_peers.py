"""Other people's augmentation, of uint8 pixels (n, H, W, 3), for the scenarios of the augmentation benchmark."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import torch
from PIL import Image
from torchvision.transforms import v2

from benchmarks.rungs.augment_scenarios import NUM_CLASSES, Scenario
from pipelines.spec import CutMix, DataSpec, Mixup, RandAugment

Transform = Callable[[torch.Tensor], torch.Tensor]


def torchvision(scenario: Scenario, *, per_batch: bool, dtype: torch.dtype = torch.float32) -> Transform:
    """Return torchvision's transforms.

    Args:
        scenario: what they do.
        per_batch: with one draw for all pictures.
        dtype: of the result.
    """
    spec = scenario.spec
    mean, std = ([x / 255 for x in values] for values in (spec.mean, spec.std))
    steps = [v2.ToDtype(dtype, scale=True), v2.Normalize(mean, std)]
    if scenario.train:
        steps = [v2.RandomHorizontalFlip(), _colours(scenario), *steps]
        if spec.erasing.probability > 0:
            steps.append(v2.RandomErasing(spec.erasing.probability, value="random"))
    transform = v2.Compose(steps)

    def run(pixels: torch.Tensor) -> torch.Tensor:
        pictures = pixels.permute(0, 3, 1, 2)
        images = transform(pictures) if per_batch else torch.stack([transform(picture) for picture in pictures])
        if scenario.mix is None:
            return images
        labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        mixed: torch.Tensor = scenario.mix(images, labels)[0]
        return mixed

    return run


def _colours(scenario: Scenario) -> v2.Transform:
    if isinstance(scenario.spec.auto_augment, RandAugment):
        return v2.RandAugment(num_ops=2, magnitude=21, interpolation=v2.InterpolationMode.BILINEAR)  # 21 of 30: 7 of 10
    return v2.ColorJitter(**scenario.jitter)


def timm(spec: DataSpec, size: int) -> Transform:
    """Return timm's transforms behind its crop, and its mixing."""
    mean, std = (tuple(x / 255 for x in values) for values in (spec.mean, spec.std))
    factory, mixup = import_module("timm.data.transforms_factory"), import_module("timm.data.mixup")
    _, operate, normalize = factory.transforms_imagenet_train(
        size, interpolation="bicubic", auto_augment="rand-m7-mstd0.5-inc1", mean=mean, std=std, separate=True
    )
    transform = v2.Compose([v2.RandomHorizontalFlip(), operate, normalize])
    mix = mixup.Mixup(mixup_alpha=0.1, cutmix_alpha=1.0, num_classes=NUM_CLASSES)

    def run(pixels: torch.Tensor) -> torch.Tensor:
        images = torch.stack([transform(Image.fromarray(picture)) for picture in pixels.numpy()])
        mixed: torch.Tensor = mix(images, torch.zeros(len(images), dtype=torch.int64))[0]
        return mixed

    return run


def kornia(scenario: Scenario) -> Transform:
    """Return kornia's batched modules, which draw for each picture, on floats in [0, 1]."""
    augmentation = import_module("kornia.augmentation")
    spec = scenario.spec
    mean, std = (torch.tensor(values) / 255 for values in (spec.mean, spec.std))
    steps: list[torch.nn.Module] = [augmentation.Normalize(mean, std)]
    if scenario.train:
        colours = augmentation.ColorJitter(**scenario.jitter, p=1.0)
        if isinstance(spec.auto_augment, RandAugment):
            colours = augmentation.auto.RandAugment(n=2, m=21)
        steps = [augmentation.RandomHorizontalFlip(), colours, *steps]
    if spec.erasing.probability > 0:  # of one colour: kornia has none that draws pixels
        steps.append(augmentation.RandomErasing(p=spec.erasing.probability))
    if isinstance(spec.mix, Mixup):
        steps.append(augmentation.RandomMixUpV2(data_keys=["input"]))
    if isinstance(spec.mix, CutMix):
        steps.append(augmentation.RandomCutMixV2(data_keys=["input"]))
    modules = torch.nn.Sequential(*steps)

    def run(pixels: torch.Tensor) -> torch.Tensor:
        images: torch.Tensor = modules(pixels.permute(0, 3, 1, 2).float() / 255)
        return images

    return run


def dali(scenario: Scenario, pixels: torch.Tensor) -> Transform:
    """Return DALI's operators for colours and normalization."""
    spec = scenario.spec
    found: Transform = import_module("benchmarks.peers.dali_augment").transform(
        pixels, scenario.jitter if scenario.train else None, spec.mean, spec.std
    )
    return found
