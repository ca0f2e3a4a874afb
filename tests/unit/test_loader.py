"""`pipelines.open`, as somebody with their own loop uses it."""

from __future__ import annotations

import subprocess
import sys
import threading
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from deliveries import threads_ended
from torch import distributed

import pipelines
from datasets_tools.store import Store
from fastbot.recipe_files import load_recipe, write_recipe
from pipelines.errors import PipelineError, SpecError
from pipelines.loader import data_spec
from pipelines.spec import DataSpec, Mixup

SPEC = {"global_batch_size": 16, "crop_size": 32, "eval": {"resize_size": 36, "crop_size": 32, "global_batch_size": 16}}
FAST = {"backend": "synthetic", "device": "cpu", "num_threads": 1}


def ids(batches: Any) -> list[list[int]]:
    return [batch.ids.tolist() for batch in batches]


def test_five_lines_give_batches(store_path: Path) -> None:
    before = threading.active_count()
    with pipelines.open(store_path, SPEC, device="cpu") as batches:
        assert len(batches) == 4
        assert batches.num_classes == len(batches.class_names) == 12
        for batch in batches:
            assert batch.images.shape == (16, 3, 32, 32)
    assert threads_ended(before)
    with pytest.raises(PipelineError, match="closed"):
        batches.epoch(0)


def test_iterating_goes_from_epoch_to_epoch(store: Store) -> None:
    with pipelines.open(store, SPEC, **FAST) as batches:
        epochs = [ids(batches) for _ in range(3)]
        assert epochs[0] != epochs[1] != epochs[2]
        assert epochs == [ids(batches.epoch(epoch)) for epoch in range(3)]
        assert ids(batches.epoch(1, 2)) == epochs[1][2:]
        assert ids(batches) == epochs[2], "iterating goes on after the epoch that was read last"


def test_a_loop_left_half_way_leaves_the_rest_of_its_epoch_out(store: Store) -> None:
    with pipelines.open(store, SPEC, **FAST) as batches:
        second = ids(batches.epoch(1))
        batches.load_state_dict({"epoch": 0, "step": 0})
        list(islice(batches, 2))
        assert ids(batches) == second


@pytest.mark.parametrize("num_read", [1, 4, 7])
def test_a_state_saved_anywhere_resumes_there(store: Store, num_read: int) -> None:
    with pipelines.open(store, SPEC, **FAST) as whole, pipelines.open(store, SPEC, **FAST) as resumed:
        everything = [batch for _ in range(4) for batch in ids(whole)]
        whole.load_state_dict({"epoch": 0, "step": 0})
        reading = (batch for _ in range(2) for batch in whole)
        assert ids(islice(reading, num_read)) == everything[:num_read]
        resumed.load_state_dict(whole.state_dict())
        read = ids(resumed) + ids(resumed)
        assert len(read) == 8 - num_read % 4, "the rest of an epoch, and a whole one"
        assert read == everything[num_read:][: len(read)]


def test_evaluation_counts_every_sample_once_each_time(store: Store) -> None:
    with pipelines.open(store, SPEC, split="val", **FAST) as batches:
        for _ in range(2):
            counted = [int(k) for b in batches for k, w in zip(b.ids, b.weight, strict=True) if w]
            assert counted == list(range(24))


def test_a_split_of_any_name_can_be_trained_on(store: Store) -> None:
    with pipelines.open(store, SPEC, split="val", train=True, **FAST) as batches:
        assert ids(batches.epoch(0)) != ids(batches.epoch(1))


def test_ranks_come_from_the_arguments_or_from_torch_distributed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pipelines.open(store, SPEC, **FAST) as alone, pipelines.open(store, SPEC, rank=1, world_size=2, **FAST) as one:
        expected = [row[1::2] for row in ids(alone.epoch(0))]
        assert ids(one.epoch(0)) == expected
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    with pipelines.open(store, SPEC, **FAST) as one:
        assert ids(one.epoch(0)) == expected


def test_half_of_a_rank_is_refused(store: Store) -> None:
    with pytest.raises(SpecError, match="rank is 1 and world_size is None: give both, or neither"):
        pipelines.open(store, SPEC, rank=1, **FAST)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"on_bad_image": "ignore"}, "on_bad_image is 'ignore': choose fail, replace or skip"),
        ({"num_threads": 0}, "num_threads is 0: choose 1 or more"),
        ({"device": "gpu"}, "device is 'gpu': choose cpu or cuda, or cuda:N"),
        ({"device": "meta"}, "device is 'meta': choose cpu or cuda, or cuda:N"),
    ],
    ids=lambda value: next(iter(value.values())) if isinstance(value, dict) else "",
)
def test_a_wrong_argument_is_refused_before_anything_is_read(store: Store, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        pipelines.open(store, SPEC, **FAST | wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here a CUDA device is no mistake")
def test_a_device_that_is_not_there_is_refused(store: Store) -> None:
    with pytest.raises(SpecError, match="device is 'cuda:1': torch sees 0 CUDA devices; choose one of them, or cpu"):
        pipelines.open(store, SPEC, **FAST | {"device": "cuda:1"})


def test_a_recipe_file_gives_its_data_table(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(write_recipe(load_recipe("bot-efficient")))
    assert data_spec(file) == data_spec(str(file)) == load_recipe("bot-efficient").data
    file.write_text('name = "none"\n')
    assert data_spec(file) == data_spec(None) == DataSpec()


def test_a_recipe_with_a_parent_says_how_to_write_it_out(tmp_path: Path) -> None:
    file = tmp_path / "child.toml"
    file.write_text('parent = "bot-baseline"\n')
    with pytest.raises(SpecError, match=rf"'bot-baseline'.*fastbot recipes {file} > whole.toml"):
        data_spec(file)


@pytest.mark.parametrize("content", [None, "data = [", b"\xff"])
def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, content: str | bytes | None) -> None:
    file = tmp_path / "recipe.toml"
    if content is not None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(SpecError, match="recipe.toml cannot be read as a recipe"):
        data_spec(file)


def test_a_mapping_is_checked_like_a_recipe() -> None:
    assert data_spec({"mix": {"kind": "mixup", "group": 8}}) == DataSpec(mix=Mixup(group=8))
    with pytest.raises(SpecError, match="spec: croop_size: Extra inputs are not permitted.*The fields are .*crop_size"):
        data_spec({"croop_size": 3})


def test_what_is_no_mapping_at_all_is_refused() -> None:
    with pytest.raises(SpecError, match="spec: Input should be a valid dictionary"):
        data_spec([1])  # type: ignore[arg-type]


def test_importing_the_package_does_not_import_torch() -> None:
    command = "import sys, pipelines, pipelines.errors; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'pipelines' has no attribute 'opne'"):
        pipelines.opne  # noqa: B018
