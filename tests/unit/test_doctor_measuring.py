"""The examination's measurements, on clocks that tests move. What machines really do is asked for no figure here."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np
import pytest
import torch
from dispatched import Operations
from test_trainer import ALONE, EVERYTHING, pipelines
from torch import nn

from datasets_tools.store import Store
from fastbot.diagnosis import page_cache, reading, stages
from fastbot.diagnosis.clock import images_per_s
from fastbot.diagnosis.model_step import batch_sizes, build_step, step_rate
from fastbot.diagnosis.reading import Extent, page_in, pictures_at_random, pieces_in_order, read_rate
from fastbot.distillation import Normalization, Teacher
from fastbot.errors import RunError
from fastbot.recipe_files import load_recipe
from fastbot.trainer import Trainer
from pipelines.batch import BatchPlan, Decoded
from pipelines.spec import DataSpec, Mixup, RepeatAugment, SizeRamp

MIB = 1 << 20
CPU = torch.device("cpu")
SIZES = [2, 8, 32, 128, 256]  # of batches


@dataclass
class Stopwatch:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def batches_of(watch: Stopwatch, seconds: Iterable[float], rows: int = 10) -> Iterator[int]:
    for duration in seconds:
        watch.now += duration
        yield rows


def test_what_warms_up_does_not_count() -> None:
    watch = Stopwatch()
    rate = images_per_s(batches_of(watch, chain([1.0, 0.5], repeat(0.25))), 4.0, warmups=2, clock=watch)
    assert rate == pytest.approx(40)


def test_warming_up_ends_at_half_of_the_budget() -> None:
    watch = Stopwatch()
    assert images_per_s(
        batches_of(watch, chain([3.0, 1.0], repeat(99.0))), 4.0, warmups=50, clock=watch
    ) == pytest.approx(10)


def test_one_batch_counts_whatever_the_budget() -> None:
    watch = Stopwatch()
    assert images_per_s(batches_of(watch, repeat(20.0)), 1.0, warmups=3, clock=watch) == pytest.approx(0.5)


def test_what_the_device_still_has_to_do_is_waited_for() -> None:
    watch = Stopwatch()

    def synchronize() -> None:
        watch.now += 5.0

    rate = images_per_s(batches_of(watch, repeat(1.0)), 2.0, warmups=0, synchronize=synchronize, clock=watch)
    assert rate == pytest.approx(10 / (1 + 5))


def filesystem(path: Path) -> str:
    return subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def cached_file(tmp_path: Path) -> Path:
    """A file of 8 MiB that was written through, and that the page cache holds."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(8 * MIB))
    with path.open("r+b") as file:
        os.fsync(file.fileno())
    return path


def test_pages_that_were_never_touched_are_not_cached(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("w+b") as file:
        file.truncate(64 * 4096)
        assert page_cache.resident_pages(file.fileno(), 0, 64 * 4096) == (0, 64)
        os.pwrite(file.fileno(), b"x" * 4096, 32 * 4096)
        assert page_cache.resident_pages(file.fileno(), 32 * 4096 + 5, 10) == (1, 1)


def test_what_is_cached_is_what_fincore_says(cached_file: Path) -> None:
    command = ["fincore", "--bytes", "--noheadings", "--json", str(cached_file)]
    try:
        told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    except FileNotFoundError:
        pytest.skip("fincore, of util-linux, is not installed")
    with cached_file.open("rb") as file:
        resident, pages = page_cache.resident_pages(file.fileno(), 0, 8 * MIB)
    assert pages == 8 * MIB // 4096
    assert resident == int(told["fincore"][0]["pages"]) > 0


def test_an_evicted_range_is_not_cached_and_what_is_far_from_it_is(cached_file: Path) -> None:
    if filesystem(cached_file) in ("tmpfs", "ramfs"):
        pytest.skip("files in memory stay there")
    with cached_file.open("rb") as file:
        page_cache.evict(file.fileno(), 6 * MIB + 77, 111_000)
        assert page_cache.resident_pages(file.fileno(), 6 * MIB + 77, 111_000)[0] == 0
        assert page_cache.resident_pages(file.fileno(), 0, MIB)[0] == 256


def test_who_does_not_own_a_file_is_not_told(cached_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with cached_file.open("rb") as file:
        assert page_cache.is_told(file.fileno())
        cached_file.chmod(0o444)
        assert page_cache.is_told(file.fileno())  # its owner may ask all the same
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 4242)
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        assert not page_cache.is_told(file.fileno())
        watched = read_rate(repeat([Extent(cached_file, 0, 4096)]), 1, 0.0)
    assert watched.cached is None


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    """A disk that takes half a second for anything, and an hour to forget it."""
    watch = Stopwatch()

    def read(file: int, buffers: Sequence[memoryview], offset: int) -> int:
        watch.now += 0.5
        return len(buffers[0])

    def evict(file: int, offset: int, size: int) -> None:
        watch.now += 3600

    monkeypatch.setattr(reading.os, "preadv", read)
    monkeypatch.setattr(page_cache, "evict", evict)
    return watch


def test_reading_alone_is_timed_and_stops_within_the_budget(cached_file: Path, slow_disk: Stopwatch) -> None:
    extents = [Extent(cached_file, 1000 * k, 1000) for k in range(100)]
    began = slow_disk.now
    rate = read_rate(repeat(extents), 1, 2.0, slow_disk)
    assert rate.bytes_per_s == pytest.approx(2000)
    assert slow_disk.now - began == pytest.approx(100 * 3600 + 2)
    assert rate.cached == pytest.approx(1)  # nothing was really put out


def test_reading_stops_when_it_has_enough(
    cached_file: Path, slow_disk: Stopwatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_MOST_BYTES", 3000)
    rounds = iter([[Extent(cached_file, 0, 2000)]] * 2)  # a third round would raise StopIteration
    assert read_rate(rounds, 1, 1e9, slow_disk).bytes_per_s == pytest.approx(4000)


def test_pictures_are_brought_into_memory_as_far_as_the_budget_goes(cached_file: Path, slow_disk: Stopwatch) -> None:
    extents = [Extent(cached_file, 1000 * k, 1000) for k in range(100)]
    assert page_in(extents, 1, 2.0, slow_disk) == 4
    assert page_in(extents, 1, 0.0, slow_disk) == 1
    assert page_in(extents[:3], 2, 1e9, slow_disk) == 3


def test_a_file_that_was_cut_is_named(cached_file: Path) -> None:
    with pytest.raises(RunError, match=r"file: was cut while it was read: it has 8,388,608 bytes"):
        read_rate(repeat([Extent(cached_file, 9_000_000, 1000)]), 1, 1.0)


def test_pieces_in_order_cover_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_PIECES_A_ROUND", 2)
    files = [Extent(Path("a"), 0, 9 * MIB), Extent(Path("b"), 0, 1)]
    pieces = [
        Extent(Path("a"), 0, 4 * MIB),
        Extent(Path("a"), 4 * MIB, 4 * MIB),
        Extent(Path("a"), 8 * MIB, MIB),
        files[1],
    ]
    rounds = pieces_in_order(files, np.random.default_rng(0))
    read = [piece for part in islice(rounds, 8) for piece in part]
    start = pieces.index(read[0])
    assert read[: 4 - start] == pieces[start:]
    assert read[4 - start : 8 - start] == pieces


def test_pictures_at_random_are_distinct_within_a_round() -> None:
    pictures = [Extent(Path("a"), 10 * k, 10) for k in range(1000)]
    first, second = islice(pictures_at_random(pictures, np.random.default_rng(0)), 2)
    assert len(set(first)) == len(first) == 256
    assert first != second
    assert next(pictures_at_random(pictures[:1], np.random.default_rng(0))) == pictures[:1]


def trainer(watch: Stopwatch, s_per_row: float, most_rows: int = 1 << 30) -> Callable[[int], int]:
    def step(rows: int) -> int:
        if rows > most_rows:
            raise torch.OutOfMemoryError
        watch.now += s_per_row * rows
        return rows

    return step


@pytest.mark.parametrize(
    ("s_per_row", "most_rows", "batch_size", "out_of_memory"),
    [
        (1e-4, 1 << 30, 256, False),  # fast: as asked for
        (0.1, 1 << 30, 32, False),  # a step of 128 would not fit the budget
        (20.0, 1 << 30, 2, False),  # slow: one step of the smallest, and no more
        (1e-4, 40, 32, True),
    ],
)
def test_a_batch_grows_as_far_as_budget_and_memory_go(
    s_per_row: float, most_rows: int, batch_size: int, out_of_memory: bool
) -> None:
    watch = Stopwatch()
    rate = step_rate(trainer(watch, s_per_row, most_rows), SIZES, 10.0, clock=watch)
    assert rate.batch_size == batch_size
    assert rate.out_of_memory == out_of_memory
    assert rate.images_per_s == pytest.approx(1 / s_per_row)
    assert watch.now - 100 <= 10 + (batch_size + 2) * s_per_row  # a step that has begun is finished, one made anyway


def test_a_first_step_that_loads_kernels_for_seconds_is_not_taken_for_a_slow_model() -> None:
    watch = Stopwatch()
    warm = trainer(watch, 1e-4)

    def step(rows: int) -> int:
        watch.now += 4.0 if watch.now == 100 else 0.0
        return warm(rows)

    rate = step_rate(step, SIZES, 10.0, clock=watch)
    assert rate.batch_size == 256
    assert rate.images_per_s == pytest.approx(1e4)


def test_a_model_too_large_for_the_memory_has_no_rate() -> None:
    watch = Stopwatch()
    rate = step_rate(trainer(watch, 1.0, most_rows=1), SIZES, 10.0, clock=watch)
    assert rate.images_per_s is None
    assert rate.out_of_memory


@pytest.mark.parametrize(
    ("overrides", "asked", "sizes"),
    [
        ([], 256, SIZES),
        ([], 2, [2]),
        (["micro_batches=4"], 64, [8, 32, 64]),  # 2, 8 and 16 rows each
        (["micro_batches=4"], 4, [4]),
        (["model.bn_batch=12"], 96, [2, 8, 24, 96]),  # of 32 rows 24 are whole groups
        (["micro_batches=2", "model.bn_batch=12"], 96, [4, 16, 48, 96]),
        (["model.bn_batch=sync"], 9, [2, 8, 9]),
    ],
)
def test_smaller_batches_have_as_many_parts_and_whole_groups(
    overrides: list[str], asked: int, sizes: list[int]
) -> None:
    assert batch_sizes(load_recipe("bot-baseline", overrides), asked) == sizes


@pytest.mark.parametrize("tricks", [(), EVERYTHING], ids=["plain", "every trick"])
def test_a_step_is_the_trainers(tricks: tuple[str, ...], store: Store, tiny_recipe: Path) -> None:
    """The oracle is what the trainer asks torch to run in its second step."""
    spec = "distillation={kind='teacher', teacher='t'}"
    overrides = [*tricks, *([spec] if tricks else []), 'epochs="3 steps"']
    recipe = load_recipe(str(tiny_recipe), overrides).resolved()
    halves = Normalization((127.5,) * 3, (127.5,) * 3)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, store.num_classes))
    teacher = Teacher(network, CPU, torch.float32, halves, halves) if tricks else None
    training = Trainer(recipe, *pipelines(store, recipe), store.num_classes, ALONE, teacher)
    counts: list[Counter[str]] = []
    with Operations() as theirs:
        training.fit([lambda step: counts.append(Counter(theirs.counts))])
    step = build_step(recipe, store.num_classes, CPU, teacher)
    step(recipe.data.global_batch_size)
    with Operations() as ours:
        step(recipe.data.global_batch_size)
    expected = counts[1] - counts[0]
    work = [
        name for name in expected if any(word in name for word in ("convolution", "batch_norm", "_foreach", "fused"))
    ]
    assert {name: ours.counts[name] for name in work} == {name: expected[name] for name in work}
    assert any("convolution_backward" in name for name in work)
    assert any("lerp" in name for name in work) == bool(tricks)


def sample(num: int) -> stages.Sample:
    sizes = np.arange(100, 100 + num, dtype=np.int32)
    return stages.Sample(np.arange(1000, 1000 + num), sizes, sizes + 50)


@pytest.mark.parametrize("num", [1, 3, 8, 100])
def test_plans_are_training_s_on_the_pictures_of_the_sample(num: int) -> None:
    spec = DataSpec(
        global_batch_size=192,
        crop_size=48,
        order=RepeatAugment(),
        size_ramp=SizeRamp(start_size=32),
        mix=Mixup(group=96),
    )
    for plan in islice(stages.plans(spec, sample(num), 8), 20):
        assert plan.output_size == (48, 48)
        assert len(plan.ids) == 8
        heights, widths = plan.ids - 1000 + 100, plan.ids - 1000 + 150
        assert ((plan.ids >= 1000) & (plan.ids < 1000 + num)).all()
        top, left, height, width = plan.windows.T
        assert ((top + height <= heights) & (left + width <= widths)).all()
        assert (plan.lam < 1).any()


class Breaking:
    """A backend that cannot decode the first `num_bad` rows of any batch."""

    name = "breaking"

    def __init__(self, num_bad: int, watch: Stopwatch | None = None) -> None:
        self.num_bad, self.closed = num_bad, 0

    def pixels(self, plans: Iterable[BatchPlan]) -> Generator[Decoded]:
        for plan in plans:
            failed = {row: RunError(f"row {row} is bad") for row in range(self.num_bad)}
            yield Decoded(torch.zeros(len(plan.ids), *plan.output_size, 3, dtype=torch.uint8), failed)

    def close(self) -> None:
        self.closed += 1


def test_damaged_pictures_are_counted_and_not_taken_for_decoded_ones() -> None:
    backend = Breaking(3)
    found = stages.decode_rate(backend, stages.plans(DataSpec(crop_size=8), sample(8), 8), 0.0)
    assert found.num_failed == 3 * 2  # one batch warmed up, one counted
    assert backend.closed == 1


def test_a_store_of_which_nothing_can_be_decoded_says_why() -> None:
    backend = Breaking(8)
    with pytest.raises(RunError, match="row 0 is bad"):
        stages.decode_rate(backend, stages.plans(DataSpec(crop_size=8), sample(8), 8), 0.0)
    assert backend.closed == 1


def test_pytorch_gets_its_threads_back() -> None:
    before = torch.get_num_threads()
    with contextlib.suppress(KeyError), stages.torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_a_model_with_an_auxiliary_head_is_measured_with_it() -> None:
    recipe = load_recipe("bot-inceptionv3-distill", ["model.aux_weight=0.4", "precision.kind=fp32"])
    assert build_step(recipe, 3, CPU)(2) == 2
