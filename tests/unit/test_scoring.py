"""What is said where a network does not take pictures of a size, or the device has no memory for them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fastbot.cli.scoring import check_size, memory_errors_named
from fastbot.errors import ModelError, RunError
from fastbot.evaluation.crop import crop_of
from fastbot.precision import build_precision
from fastbot.recipe_files import load_recipe

CPU = torch.device("cpu")
FIXED = nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 2))
ANY = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))


@pytest.mark.parametrize(("network", "size", "fits"), [(FIXED, 224, True), (FIXED, 192, False), (ANY, 192, True)])
def test_a_network_of_one_size_is_named(network: nn.Module, size: int, fits: bool) -> None:
    recipe = load_recipe("bot-baseline")
    crop = crop_of(recipe.data.eval, size, 0.875)
    precision = build_precision("fp32", CPU, tf32=False)
    if fits:
        check_size(network, recipe, crop, precision, CPU)
        return
    with pytest.raises(ModelError, match=r"does not take pictures of 192 px: .* Choose another --size"):
        check_size(network, recipe, crop, precision, CPU)


CPUS_OWN = RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory")


class Insatiable(nn.Module):
    """A network for which there is no memory."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise self._error


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), CPUS_OWN], ids=["cuda", "cpu"])
def test_no_memory_for_one_picture_is_the_sizes_doing_and_not_the_networks(error: Exception) -> None:
    recipe = load_recipe("bot-baseline")
    crop = crop_of(recipe.data.eval, 2048, 0.875)
    with pytest.raises(RunError, match="no memory for one picture of 2048 px: choose a smaller --size"):
        check_size(Insatiable(error), recipe, crop, build_precision("fp32", CPU, tf32=False), CPU)


def test_torchs_own_error_of_a_cpu_without_memory_is_known() -> None:
    with pytest.raises(RunError, match="no memory for 64 pictures"), memory_errors_named(64, 448):
        torch.empty(2**52)


def test_no_memory_names_the_option() -> None:
    with (
        pytest.raises(RunError, match="64 pictures of 448 px at a time: choose a smaller --batch-size"),
        memory_errors_named(64, 448),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="something else"), memory_errors_named(64, 448):
        raise RuntimeError("something else")
