"""What `pipelines.open` takes, and what it says to the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_loader import FAST, SPEC, ids
from torch import distributed

import pipelines
from datasets_tools.store import Store
from fastbot.recipe_files import load_recipe, write_recipe
from pipelines.errors import SpecError
from pipelines.loader import data_spec
from pipelines.spec import DataSpec, Mixup


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
        ({"num_threads": 0}, "num_threads is 0: choose a whole number, 1 or more"),
        ({"num_threads": 1.5}, "num_threads is 1.5: choose a whole number, 1 or more"),
        ({"num_threads": True}, "num_threads is True: choose a whole number, 1 or more"),
        ({"rank": True, "world_size": 2}, "rank is True: choose a whole number, 0 or more"),
        ({"rank": 0, "world_size": "2"}, "world_size is '2': choose a whole number, 1 or more"),
        ({"rank": 2, "world_size": 2}, "rank is 2 of world_size 2: ranks count from 0 to world_size - 1"),
        ({"seed": 1.5}, "seed is 1.5: choose a whole number, 0 or more"),
        ({"seed": None}, "seed is None: choose a whole number, 0 or more"),
        ({"seed": 2**64}, r"seed is 18446744073709551616: choose a whole number from 0 to 2\*\*64 - 1"),
        ({"train": "yes"}, "train is 'yes': choose True or False, or None"),
        ({"backend": ["turbo"]}, r"backend is \['turbo'\]; it must be one of auto, turbo"),
        ({"dtype": "float32"}, "images cannot be float32; choose one of torch.float32"),
        ({"device": "gpu"}, "device is 'gpu': choose cpu or cuda, or cuda:N"),
        ({"device": 1.5}, "device is 1.5: choose cpu or cuda, or cuda:N"),
        ({"device": True}, "device is True: choose cpu or cuda, or cuda:N"),
        ({"device": "meta"}, "device is 'meta': choose cpu or cuda, or cuda:N"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_wrong_argument_is_refused_before_anything_is_read(store: Store, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        pipelines.open(store, SPEC, **FAST | wrong)


@pytest.mark.parametrize("wrong", [None, 3, b"store", ["store"]], ids=repr)
def test_a_store_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(SpecError, match="store is .*: give a Store, or the path of the folder that `fastbot convert`"):
        pipelines.open(wrong, SPEC, **FAST)


@pytest.mark.parametrize("wrong", ["two", "0", "", "-1"])
def test_a_launcher_that_says_no_number_is_named(store: Store, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", wrong)
    with pytest.raises(SpecError, match=f"LOCAL_WORLD_SIZE is {wrong!r}: .* unset it, or give num_threads"):
        pipelines.open(store, SPEC, **FAST | {"num_threads": None})


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
    with pytest.raises(SpecError, match=r"^croop_size is not a field \(spec\)\. Did you mean crop_size\?$"):
        data_spec({"croop_size": 3})


def test_a_file_is_named_with_what_is_wrong_in_it(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text("[data]\ncrop_size = true\n")
    with pytest.raises(SpecError, match=r"^crop_size is True \(.*recipe\.toml, table data\): it should be a number$"):
        data_spec(file)


def test_fields_outside_of_the_table_that_is_read_are_not_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text("crop_size = 64\nflip = 0\n")
    with pytest.raises(SpecError, match=r"recipe.toml has crop_size, flip outside of a table data: .* \[data\]"):
        data_spec(file)


@pytest.mark.parametrize("wrong", [[1], [], 0, False, 3.5], ids=repr)
def test_what_is_no_mapping_at_all_is_refused(wrong: Any) -> None:
    with pytest.raises(SpecError, match="^spec is .*: it should be a table"):
        data_spec(wrong)
