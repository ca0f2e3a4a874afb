"""Every backend shows the pixels of the reference, for one plan, on photographs and in place to 1/20 of a pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from jpeg_kinds import PHOTOGRAPHS, RAW, TEXTURES
from numpy.typing import NDArray
from plans import eval_plan, geometry_plan, train_plan
from reference import reference_pixels
from skimage.registration import phase_cross_correlation

from datasets_tools.store import Split
from pipelines.backends import choose
from pipelines.batch import Backend, BatchPlan, Interpolation

NUM_PHOTOGRAPHS, NUM_TEXTURES, NUM_RAW = len(PHOTOGRAPHS), len(TEXTURES), len(RAW)
PHOTOGRAPH_IDS = list(range(NUM_PHOTOGRAPHS))
TEXTURE_IDS = list(range(NUM_PHOTOGRAPHS, NUM_PHOTOGRAPHS + NUM_TEXTURES))
RAW_IDS = list(range(TEXTURE_IDS[-1] + 1, TEXTURE_IDS[-1] + 1 + NUM_RAW))

# Of 255, by backend and device; decoders round differently, and so do resamplers. Held for each single picture. turbo
# lets the inverse DCT shrink pictures by 2, 4 or 8 first, which is another filter. nvJPEG's inverse DCT and colour
# conversion, and those of the GPU's JPEG engine, are not libjpeg's.
MEAN_DIFFERENCE = {"torch cpu": 2.0, "turbo cpu": 3.0, "dali cpu": 2.0, "ffcv cpu": 3.0, "dali cuda": 3.0}
SHIFT_PX = 0.05
# Of 255, for raw pictures: the same pixels go into the resampler, which alone may round differently. DALI's repeats the
# crop's border where Pillow's leaves out what lies beyond it: that shows in as many of the output's outermost pixels as
# the filter reaches. Where the cubic filter overshoots, Pillow and torch clip between their two passes too, the others
# only after both: 9 at most was seen.
RAW_MEAN_DIFFERENCE = 0.4
RAW_DIFFERENCE = {"bilinear": 1, "bicubic": 10}
OUTERMOST = {("dali", "bilinear"): 1, ("dali", "bicubic"): 2}

# Top, left, height, width: as large as every photograph allows, wide, tall, odd, and small ones.
CROPS = [(0, 0, 300, 400), (13, 7, 101, 383), (2, 111, 297, 95), (51, 33, 223, 225), (120, 141, 37, 29), (7, 9, 6, 5)]


PACKAGES = {"dali": "nvidia.dali", "ffcv": "ffcv"}
GPU_FORMS = [f"dali cuda {decoder} {load}" for decoder in ("window", "whole") for load in (0.0, 0.65, 0.9, 1.0)]


@pytest.fixture(
    scope="module",
    params=[
        *("torch cpu", "turbo cpu", "dali cpu", "ffcv cpu"),
        *(pytest.param(form, marks=pytest.mark.gpu) for form in GPU_FORMS),
    ],
)
def backend(request: pytest.FixtureRequest, pictures: Split) -> Iterator[Backend]:
    name, device, *form = request.param.split()
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    built = (
        dali_of_form(pictures, form[0], float(form[1]))
        if form
        else choose.build(name, pictures, device=torch.device(device), num_threads=2)
    )
    yield built
    built.close()


def dali_of_form(pictures: Split, decoder: str, hardware_load: float) -> Backend:
    from pipelines.backends.dali import DaliBackend
    from pipelines.backends.dali_graph import Form

    return DaliBackend(pictures, device=torch.device("cuda"), num_threads=2, form=Form(decoder, hardware_load))


@pytest.fixture(params=["bilinear", "bicubic"])
def interpolation(request: pytest.FixtureRequest) -> Interpolation:
    return request.param


def on_host(backend: Backend, plan: BatchPlan) -> tuple[NDArray[np.uint8], str]:
    """Return the pixels of one plan, and the device they were made on."""
    ((pixels, device),) = [
        (decoded.pixels.cpu().numpy().copy(), decoded.pixels.device.type)
        for decoded in backend.pixels([plan])
        if not decoded.failed
    ]
    return pixels, device


def pixels_of(backend: Backend, plan: BatchPlan) -> NDArray[np.uint8]:
    return on_host(backend, plan)[0]


def check_close(backend: Backend, split: Split, plan: BatchPlan) -> None:
    (found, device), expected = on_host(backend, plan), reference_pixels(split, plan)
    assert found.shape == expected.shape
    assert found.dtype == np.uint8
    differences = np.abs(found.astype(np.int16) - expected).mean(axis=(1, 2, 3))
    worst = int(differences.argmax())
    report = f"{backend.name}: {split.key(int(plan.ids[worst]))} differs most, by {differences[worst]:.3f} of 255"
    print(f"{report}; the mean is {differences.mean():.3f}")
    assert differences[worst] < MEAN_DIFFERENCE[f"{backend.name} {device}"], report


@pytest.mark.parametrize("output_size", [(224, 224), (64, 48)], ids=str)
def test_training_crops_equal_the_reference(
    backend: Backend, pictures: Split, output_size: tuple[int, int], interpolation: Interpolation
) -> None:
    ids = [sample_id for sample_id in PHOTOGRAPH_IDS for _ in CROPS]
    plan = train_plan(ids, CROPS * NUM_PHOTOGRAPHS, output_size)
    check_close(backend, pictures, replace(plan, interpolation=interpolation))


@pytest.mark.parametrize(("resize_size", "crop_size"), [(256, 224), (73, 65), (500, 499)])
def test_evaluation_crops_equal_the_reference(
    backend: Backend, pictures: Split, resize_size: int, crop_size: int, interpolation: Interpolation
) -> None:
    plan = eval_plan(PHOTOGRAPH_IDS, pictures.heights, pictures.widths, resize_size, crop_size)
    check_close(backend, pictures, replace(plan, interpolation=interpolation))


def test_odd_jpegs_equal_the_reference(backend: Backend, pictures: Split) -> None:
    """Every coding and sampling that a store may hold: RGB, 4:1:1, a scan a component, no Huffman tables, ..."""
    ids = list(range(RAW_IDS[-1] + 1, len(pictures.sizes)))
    assert len(ids) > 20
    check_close(backend, pictures, train_plan(ids, [(13, 7, 281, 383)] * len(ids), (224, 224)))


RAW_PLANS = {
    "crops": train_plan([i for i in RAW_IDS for _ in CROPS], CROPS * NUM_RAW, (224, 224)),
    "small crops": train_plan([i for i in RAW_IDS for _ in CROPS], CROPS * NUM_RAW, (64, 48)),
}


@pytest.mark.parametrize("name", [*RAW_PLANS, "evaluation"])
def test_raw_pictures_equal_the_reference_but_for_rounding(
    backend: Backend, pictures: Split, name: str, interpolation: Interpolation
) -> None:
    evaluation = eval_plan(RAW_IDS, pictures.heights, pictures.widths, 256, 224)
    plan = replace(RAW_PLANS.get(name, evaluation), interpolation=interpolation)
    difference = np.abs(pixels_of(backend, plan).astype(np.int16) - reference_pixels(pictures, plan))
    edge = OUTERMOST.get((backend.name, interpolation), 0)
    height, width = plan.output_size
    inside = difference[:, edge : height - edge, edge : width - edge]
    print(f"{backend.name}, {name}: mean {difference.mean():.4f}, at most {difference.max()} ({inside.max()} inside)")
    assert difference.mean(axis=(1, 2, 3)).max() < RAW_MEAN_DIFFERENCE
    assert inside.max() <= RAW_DIFFERENCE[interpolation]


def test_interpolations_differ(backend: Backend, pictures: Split) -> None:
    """By more than the tolerance that they are compared with."""
    plan = train_plan(RAW_IDS, [CROPS[0]] * NUM_RAW, (224, 224))
    cubic = pixels_of(backend, replace(plan, interpolation="bicubic"))
    difference = np.abs(pixels_of(backend, plan).astype(np.int16) - cubic)
    assert difference.mean() > 2 * RAW_MEAN_DIFFERENCE


def test_raw_pixels_come_out_bit_for_bit_beside_jpegs(
    backend: Backend, pictures: Split, interpolation: Interpolation
) -> None:
    """A window of the output's size is not resampled. JPEGs stand between, with the result they have alone."""
    ids = [sample_id for pair in zip(RAW_IDS, PHOTOGRAPH_IDS, strict=False) for sample_id in pair]
    plan = train_plan(ids, [(5 + row, 7, 113, 97) for row in range(len(ids))], (113, 97))
    plan = replace(plan, interpolation=interpolation)
    (found, device), expected = on_host(backend, plan), reference_pixels(pictures, plan)
    np.testing.assert_array_equal(found[0::2], expected[0::2])
    jpegs_alone = pixels_of(backend, train_plan(ids[1::2], plan.windows[1::2], (113, 97)))
    # A GPU's engine and its cores share a batch by its make-up, and differ from each other.
    differences = np.abs(found[1::2].astype(np.int16) - jpegs_alone).mean(axis=(1, 2, 3))
    assert differences.max() <= {"cpu": 0, "cuda": MEAN_DIFFERENCE["dali cuda"]}[device]


def shifts(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return (n, 2): how far each picture lies from where it should be, down and right, in pixels.

    Without the normalization by phase, and faded out to the edges: a normalized correlation reports 0.05 px for an
    upscaled texture that was moved by 0.25 px, because it gives the noise of empty frequencies a full voice.
    """
    fade = np.outer(np.hanning(found.shape[1]), np.hanning(found.shape[2]))
    faded = [[(picture - picture.mean()) * fade for picture in stack.mean(axis=3)] for stack in (expected, found)]
    pairs = zip(*faded, strict=True)
    return np.array([phase_cross_correlation(a, b, upsample_factor=100, normalization=None)[0] for a, b in pairs])


TEXTURE_PLANS = {
    "downscaled": train_plan(TEXTURE_IDS, [(5, 8, 391, 387)] * NUM_TEXTURES, (224, 224)),
    "downscaled unevenly": train_plan(TEXTURE_IDS, [(3, 1, 301, 399)] * NUM_TEXTURES, (224, 224)),
    "upscaled": train_plan(TEXTURE_IDS, [(101, 150, 87, 91)] * NUM_TEXTURES, (224, 224)),
}


@pytest.mark.parametrize("name", [*TEXTURE_PLANS, "evaluation"])
def test_textures_lie_where_the_reference_has_them(backend: Backend, pictures: Split, name: str) -> None:
    evaluation = eval_plan(TEXTURE_IDS, pictures.heights, pictures.widths, 256, 224)
    plan = TEXTURE_PLANS.get(name, evaluation)
    found = shifts(pixels_of(backend, plan), reference_pixels(pictures, plan))
    print(f"{backend.name}, {name}: shifted by at most {np.abs(found).max():.3f} px")
    assert np.abs(found).max() < SHIFT_PX


@pytest.mark.parametrize("extent", [(391, 387), (87, 91)], ids=["downscaled", "upscaled"])
def test_the_measure_sees_a_shift(pictures: Split, extent: tuple[int, int]) -> None:
    """With the box a tenth of an output pixel farther right, a picture lies as much farther left, and that is seen."""
    plan = geometry_plan(TEXTURE_IDS, [(0, 0, 401, 512)] * NUM_TEXTURES, [(5, 8, *extent)] * NUM_TEXTURES, (224, 224))
    moved = plan.boxes + np.array([0, 0.1 * extent[1] / 224, 0, 0])
    found = shifts(reference_pixels(pictures, plan), reference_pixels(pictures, replace(plan, boxes=moved)))
    np.testing.assert_allclose(found, np.tile([0, -0.1], (NUM_TEXTURES, 1)), atol=0.03)
