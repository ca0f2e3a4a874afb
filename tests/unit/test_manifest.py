from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sources import good_source

from datasets_tools.convert import ConvertOptions, convert
from datasets_tools.errors import StoreError
from datasets_tools.manifest import Manifest


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    convert(good_source(), tmp_path / "store", ConvertOptions("1.2.3"), lambda progress: None)
    return tmp_path / "store"


def edit(store: Path, **changes: Any) -> None:
    content = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps(content | changes))


def test_it_is_frozen_and_says_what_wrote_it(saved: Path) -> None:
    manifest = Manifest.load(saved)
    assert (manifest.format_version, manifest.fastbot_version) == (1, "1.2.3")
    with pytest.raises(ValidationError):
        manifest.format_version = 2  # type: ignore[misc]


def test_another_version_is_named_even_where_the_rest_differs(saved: Path) -> None:
    (saved / "manifest.json").write_text('{"format_version": 7, "shards": []}')
    with pytest.raises(StoreError, match="store of another version: format_version is 7, this fastbot reads 1"):
        Manifest.load(saved)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot be parsed"), ("[]", "no JSON object"), ("\x00", "cannot be parsed"), ("{}", "another version")],
)
def test_what_is_no_manifest_is_refused(saved: Path, content: str, message: str) -> None:
    (saved / "manifest.json").write_text(content)
    with pytest.raises(StoreError, match=message):
        Manifest.load(saved)


def test_a_wrong_value_and_an_unknown_key_are_named(saved: Path) -> None:
    edit(saved, class_names=3)
    with pytest.raises(StoreError, match=r"manifest\.json: class_names"):
        Manifest.load(saved)
    edit(saved, class_names=["cat", "dog"], colour="red")
    with pytest.raises(StoreError, match=r"manifest\.json: colour"):
        Manifest.load(saved)


def test_a_folder_without_one_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a store"):
        Manifest.load(tmp_path)
    with pytest.raises(StoreError, match="no such folder"):
        Manifest.load(tmp_path / "absent")
