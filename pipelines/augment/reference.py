"""The meaning of every augmentation, in plain torch and float64: slow, readable, and what the fast paths must equal.

Order: mirror, jitter, lighting, normalization (BoT section 2.1), erasing, mixing (timm's order without its prefetcher;
with it timm mixes 8-bit pixels first, and erases what is mixed). Values are floats and are never rounded, on the 0-255
scale up to normalization. Lighting is not clipped afterwards: the paper normalizes next and says nothing of clipping
(MXNet rounds and clips because it stores 8-bit pictures between its steps).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.batch import BatchPlan
from pipelines.philox import philox4x32
from pipelines.spec import DataSpec

# AlexNet's PCA of ImageNet's RGB values on the 0-255 scale, as in MXNet 1.3 `src/io/image_aug_default.cc`
# (eigenvectors are columns, channels are rows R, G, B).
EIGENVALUES = np.array([55.46, 4.794, 1.148])
EIGENVECTORS = np.array(
    [
        [-0.5675, 0.7192, 0.4009],
        [-0.5808, -0.0045, -0.8140],
        [-0.5836, -0.6948, 0.4203],
    ]
)

# Rec. 601 luma, what OpenCV's RGB2GRAY computes. MXNet 1.3 applies it to pictures that are in BGR order by then,
# exchanging the weights of red and blue; that slip is not copied.
GREY = (0.299, 0.587, 0.114)

# The values of `BatchPlan.jitter_order`, which are also the columns of `BatchPlan.jitter`.
BRIGHTNESS, CONTRAST, SATURATION = 0, 1, 2

Colours = torch.Tensor  # floats (..., 3)


class ReferenceAugment:
    """Augment, normalize, erase and mix a batch in float64.

    Args:
        spec: says which jitter, what erased pixels become, and the mean and std of the normalization.
        train: False only normalizes.
        mirror: False where pixels come mirrored already.
        dtype: to compute in; float32 makes this the plain eager peer of the benchmarks.
    """

    def __init__(self, spec: DataSpec, *, train: bool, mirror: bool = True, dtype: torch.dtype = torch.float64) -> None:
        self._train = train
        self._mirror = mirror
        self._dtype = dtype
        self._erasing = spec.erasing.mode
        self._jitter = _JITTERS[spec.jitter.kind]
        self._mean = torch.tensor(spec.mean, dtype=dtype)
        self._std = torch.tensor(spec.std, dtype=dtype)

    def __call__(self, pixels: torch.Tensor, plan: BatchPlan) -> torch.Tensor:
        """Return the augmented batch.

        Args:
            pixels: uint8 (n, H, W, 3) RGB.
            plan: n rows.

        Returns:
            (n, 3, H, W) of the dtype, channels-last, on the device of `pixels`.
        """
        pictures = torch.stack([self._picture(picture, plan, row) for row, picture in enumerate(pixels.cpu())])
        if self._train:
            pictures = mixed(pictures, plan)
        return pictures.permute(0, 3, 1, 2).to(pixels.device)

    def _picture(self, picture: torch.Tensor, plan: BatchPlan, row: int) -> torch.Tensor:
        picture = picture.to(self._dtype)
        if not self._train:
            return (picture - self._mean) / self._std
        if self._mirror and plan.flip[row]:
            picture = picture.flip(1)
        factors = [float(factor) for factor in plan.jitter[row]]
        picture = self._jitter(picture, factors, [int(step) for step in plan.jitter_order[row]])
        picture = picture + torch.from_numpy(lighting_offset(plan.lighting[row])).to(self._dtype)
        picture = (picture - self._mean) / self._std
        return erased(picture, plan.erase[row], self._erasing, plan.noise[row])


def lighting_offset(alpha: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what PCA lighting adds to each channel.

    Args:
        alpha: (..., 3), one coefficient per principal component.

    Returns:
        float64 (..., 3), on the 0-255 scale.

    Source: AlexNet (Krizhevsky et al. 2012) section 4.1; constants and orientation as MXNet 1.3.
    """
    offset: NDArray[np.float64] = (alpha * EIGENVALUES) @ EIGENVECTORS.T
    return offset


def erased(picture: Colours, box: NDArray[np.int32], mode: str, noise: NDArray[np.uint32]) -> Colours:
    """Return a normalized picture with a rectangle overwritten.

    Args:
        picture: floats (H, W, 3).
        box: int32 (4,), top, left, height, width.
        mode: of `RandomErasing`.
        noise: uint32 (2,), key of the random numbers.
    """
    top, left, height, width = (int(edge) for edge in box)
    y, x = np.mgrid[top : top + height, left : left + width]
    pixels = {"const": None, "rand": np.zeros_like(y), "pixel": y * picture.shape[1] + x}[mode]
    picture = picture.clone()
    inside = picture[top : top + height, left : left + width]
    inside[:] = 0 if pixels is None else torch.from_numpy(erasing_noise(noise, pixels))
    return picture


def erasing_noise(noise: NDArray[np.uint32], pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return standard normal colours.

    A pixel has four words of Philox4x32-10, with the counter (pixel, 0, 0, 0) and the key `noise`. The upper 24 bits of
    each make a uniform number in (0, 1); the first two make R and G, the other two B, by Box and Muller's transform.

    Args:
        noise: uint32 (2,), low and high word of the key.
        pixels: their numbers, y * W + x; of any shape.

    Returns:
        float64 (..., 3).
    """
    zero = np.uint64(0)
    key = np.uint64(noise[0]) | np.uint64(noise[1]) << np.uint64(32)
    words = [philox4x32(np.uint64(pixel), zero, zero, zero, key) for pixel in pixels.ravel()]
    upper = np.array(words, np.uint64).reshape(*pixels.shape, 4) >> np.uint64(8)
    u = (upper + 0.5) * 2.0**-24
    radius, angle = np.sqrt(-2 * np.log(u[..., 0::2])), 2 * np.pi * u[..., 1::2]
    red, blue = np.moveaxis(radius * np.cos(angle), -1, 0)
    green = radius[..., 0] * np.sin(angle[..., 0])
    return np.stack([red, green, blue], -1)


def mixed(pictures: Colours, plan: BatchPlan) -> Colours:
    """Return each picture blended with its partner's, or with a rectangle of it pasted in.

    Args:
        pictures: floats (n, H, W, 3), finished.
        plan: n rows.

    Source: Zhang et al. 2018 (mixup); Yun et al. 2019 (CutMix).
    """
    other = pictures[plan.partner.tolist()]
    lam = torch.tensor(plan.lam, dtype=pictures.dtype)[:, None, None, None]
    result = lam * pictures + (1 - lam) * other
    for row, (top, left, height, width) in enumerate(plan.cut.tolist()):
        if height > 0:
            result[row] = pictures[row]
            result[row, top : top + height, left : left + width] = other[row, top : top + height, left : left + width]
    return result


def rgb_to_hsv(rgb: Colours) -> Colours:
    """Return hue in [0, 1), saturation and value in [0, 1] of RGB colours in [0, 1].

    Source: `colorsys.rgb_to_hsv` of the Python standard library; grey has hue 0.
    """
    r, g, b = rgb.unbind(-1)
    value, low = rgb.amax(-1), rgb.amin(-1)
    chroma = value - low
    divisor = torch.where(chroma > 0, chroma, 1.0)
    sextant = torch.where(
        r == value, (g - b) / divisor, torch.where(g == value, 2 + (b - r) / divisor, 4 + (r - g) / divisor)
    )
    saturation = chroma / torch.where(value > 0, value, 1.0)
    return torch.stack([(sextant / 6) % 1, saturation, value], -1)


def hsv_to_rgb(hsv: Colours) -> Colours:
    """Return the RGB colours in [0, 1] of hue, saturation and value in [0, 1].

    Source: `colorsys.hsv_to_rgb` of the Python standard library.
    """
    hue, saturation, value = hsv.unbind(-1)
    sextant = torch.floor(hue * 6)
    fraction = hue * 6 - sextant
    p = value * (1 - saturation)
    q = value * (1 - saturation * fraction)
    t = value * (1 - saturation * (1 - fraction))
    cases = [(value, t, p), (q, value, p), (p, value, t), (p, q, value), (t, p, value), (value, p, q)]
    table = torch.stack([torch.stack(case, -1) for case in cases])
    index = (sextant.long() % 6)[None, ..., None].expand(1, *hsv.shape)
    return table.gather(0, index)[0]


def jitter_hsv(picture: Colours, factors: list[float], _: list[int]) -> Colours:
    """Scale hue (modulo one turn), saturation and value (both clipped to [0, 1]) of a picture on the 0-255 scale.

    Source: BoT section 2.1, step 4.
    """
    hue, saturation, value = rgb_to_hsv(picture / 255).unbind(-1)
    hue = (hue * factors[0]) % 1
    saturation = (saturation * factors[1]).clamp(0, 1)
    value = (value * factors[2]).clamp(0, 1)
    return hsv_to_rgb(torch.stack([hue, saturation, value], -1)) * 255


def jitter_contrast(picture: Colours, factors: list[float], order: list[int]) -> Colours:
    """Change brightness, contrast and saturation in the given order, clipping to [0, 255] after each.

    Source: MXNet 1.3 `src/io/image_aug_default.cc`, without its rounding to 8 bits between the steps.
    """
    for step in order:
        grey = picture @ picture.new_tensor(GREY)
        centre = {BRIGHTNESS: torch.zeros(()), CONTRAST: grey.mean(), SATURATION: grey[..., None]}[step]
        picture = (factors[step] * picture + (1 - factors[step]) * centre).clamp(0, 255)
    return picture


def _keep(picture: Colours, _factors: list[float], _order: list[int]) -> Colours:
    return picture


_JITTERS: dict[str, Callable[[Colours, list[float], list[int]], Colours]] = {
    "none": _keep,
    "hsv": jitter_hsv,
    "contrast": jitter_contrast,
}
