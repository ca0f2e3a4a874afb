"""Composition, threads and memory of the 8-bit operations; what each computes is in `parity/test_operations_parity`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from operation_cases import operation_pictures, operations_plan, random_operations_plan

from pipelines.augment.affine import affine_matrices
from pipelines.augment.operations import CpuOperations
from pipelines.augment.reference_operations import Sampling, reference_operations
from pipelines.batch import Operation

FILL = (10, 200, 99)
PICTURES = operation_pictures()


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def _num_threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def _batch(name: str, num: int) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.roll(PICTURES[name], k, axis=1) for k in range(num)]))


@pytest.mark.usefixtures("_num_threads")
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("name", ["astronaut", "noise", "1x1", "1x9", "5x7"])
def test_layers_follow_each_other_after_mirroring(name: str, interpolation: Sampling) -> None:
    pixels, plan = _batch(name, 64), random_operations_plan(64, layers=2)
    before = pixels.clone()
    result = CpuOperations(interpolation, FILL)(pixels, plan)
    assert torch.equal(result, reference_operations(pixels, plan, interpolation, FILL))
    assert torch.equal(pixels, before)
    assert result.is_contiguous()


def test_without_layers_pictures_are_only_mirrored() -> None:
    pixels = _batch("noise", 3)
    plan = replace(operations_plan([[]] * 3, [[]] * 3), flip=np.array([True, False, True]))
    result = CpuOperations("bicubic", FILL)(pixels, plan)
    assert torch.equal(result, torch.stack([pixels[0].flip(1), pixels[1], pixels[2].flip(1)]))
    assert result.data_ptr() != pixels.data_ptr()


@pytest.mark.usefixtures("_num_threads")
def test_fewer_pictures_than_threads() -> None:
    pixels, plan = _batch("5x7", 1), operations_plan([[Operation.INVERT]], [[0]])
    assert torch.equal(CpuOperations("bicubic", FILL)(pixels, plan), 255 - pixels)


def test_results_live_as_long_as_they_are_held() -> None:
    operations, pixels = CpuOperations("bilinear", FILL), _batch("noise", 4)
    first = operations(pixels, operations_plan([[Operation.INVERT]] * 4, [[0]] * 4))
    second = operations(pixels, operations_plan([[Operation.POSTERIZE]] * 4, [[0]] * 4))
    assert torch.equal(first, 255 - pixels)
    assert torch.equal(second, torch.zeros_like(pixels))


def test_plans_may_be_read_only_and_strided() -> None:
    plan = random_operations_plan(32, layers=3)
    shared = replace(
        plan,
        flip=np.broadcast_to(np.True_, 32),
        operations=np.broadcast_to(plan.operations[:1], (32, 3)),
        arguments=np.asfortranarray(plan.arguments),
    )
    pixels = _batch("5x7", 32)
    result = CpuOperations("nearest", FILL)(pixels, shared)
    assert torch.equal(result, reference_operations(pixels, shared, "nearest", FILL))


def test_matrices_of_what_moves_nothing_are_the_identity() -> None:
    operations = np.array([Operation.IDENTITY, Operation.SOLARIZE, Operation.TRANSLATE_X], np.int8)
    matrices = affine_matrices(operations, np.array([3, 4, 5], np.float32), (8, 9))
    identity = [1, 0, 0, 0, 1, 0]
    np.testing.assert_array_equal(matrices, [identity, identity, [1, 0, 5, 0, 1, 0]])


def test_a_rotation_turns_counter_clockwise_about_the_centre() -> None:
    pixels = torch.arange(48, dtype=torch.uint8).view(1, 4, 4, 3)
    result = CpuOperations("bilinear", FILL)(pixels, operations_plan([[Operation.ROTATE]], [[90]]))
    assert torch.equal(result[0], torch.rot90(pixels[0]))


def test_translations_move_left_and_up_and_uncover_the_fill_colour() -> None:
    pixels = _batch("noise", 2)
    plan = operations_plan([[Operation.TRANSLATE_X], [Operation.TRANSLATE_Y]], [[2], [-3]])
    left, down = CpuOperations("bicubic", FILL)(pixels, plan)
    assert torch.equal(left[:, :-2], pixels[0, :, 2:])
    assert torch.equal(down[3:], pixels[1, :-3])
    assert (left[:, -2:] == torch.tensor(FILL)).all()
    assert (down[:3] == torch.tensor(FILL)).all()
