from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from stores import StoredPicture, write_store

from datasets_tools.errors import StoreError
from datasets_tools.store import manifest as manifest_module
from datasets_tools.store.manifest import Manifest

PICTURES = [StoredPicture("a.jpg", b"one", 2, 3, label=0), StoredPicture("b.jpg", b"two!", 3, 2, label=1)]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    label_sets = {"val": {"real": [[0, 1], []]}}
    write_store(tmp_path / "store", {"train": PICTURES, "val": PICTURES}, ("cat", "dog"), label_sets=label_sets)
    return tmp_path / "store"


def edit(store: Path, *keys: str | int, value: Any) -> None:
    """Set one value deep inside the manifest."""
    content = json.loads((store / "manifest.json").read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    (store / "manifest.json").write_text(json.dumps(content))


def test_what_was_saved_is_loaded(saved: Path) -> None:
    manifest = Manifest.load(saved)
    assert (manifest.format_version, manifest.fastbot_version) == (3, "0")
    assert manifest.class_names == ("cat", "dog")
    assert [file.name for file in manifest.splits["val"].files] == ["val.beton", "val.index", "val.real.json"]
    assert manifest.splits["train"].class_counts == (1, 1)
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_it_is_frozen(saved: Path) -> None:
    with pytest.raises(ValidationError):
        Manifest.load(saved).format_version = 4  # type: ignore[misc]


@pytest.mark.parametrize(("version", "found"), [("7", "7"), ("1", "1"), ('"2"', "no integer"), ("[[]]", "no integer")])
def test_another_version_is_named_even_where_the_rest_differs(saved: Path, version: str, found: str) -> None:
    (saved / "manifest.json").write_text(f'{{"format_version": {version}, "pages": []}}')
    with pytest.raises(StoreError, match=f"another version: format_version is {found}, this fastbot reads 3") as caught:
        Manifest.load(saved)
    assert ("Upgrade fastbot" if version == "7" else "Convert the store again") in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "cannot be parsed"),
        (b"[]", "no JSON object"),
        (b"\x00", "cannot be parsed"),
        (b"\xff\xfe\xfd", "cannot be parsed"),
        (b"{}", "another version"),
        (b"[" * 100_000, "cannot be parsed"),
        (b'{"format_version": ' + b"9" * 10_000 + b"}", "cannot be parsed"),
    ],
)
def test_what_is_no_manifest_is_refused(saved: Path, content: bytes, message: str) -> None:
    (saved / "manifest.json").write_bytes(content)
    with pytest.raises(StoreError, match=message):
        Manifest.load(saved)


def test_what_is_far_too_large_is_not_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = Manifest.load(saved)
    monkeypatch.setattr(manifest_module, "MAX_MANIFEST_BYTES", 100)
    for reading in (lambda: Manifest.load(saved), lambda: Manifest.parse("s3://there", b" " * 101)):
        with pytest.raises(StoreError, match="at most 100 are read"):
            reading()
    with pytest.raises(StoreError, match="names 2 classes and 0 pictures"):
        manifest.save(saved)


def test_a_wrong_value_and_an_unknown_key_are_named(saved: Path) -> None:
    edit(saved, "class_names", value=3)
    with pytest.raises(StoreError, match=r"manifest\.json: class_names"):
        Manifest.load(saved)
    edit(saved, "class_names", value=["cat", "dog"])
    edit(saved, "colour", value="red")
    with pytest.raises(StoreError, match=r"manifest\.json: colour"):
        Manifest.load(saved)


def test_an_unprintable_key_is_named_printably(saved: Path) -> None:
    edit(saved, "\ud800\n\x1b[31m" + "x" * 1000, value=1)
    with pytest.raises(StoreError) as caught:
        Manifest.load(saved)
    message = str(caught.value).removeprefix(str(saved))
    assert message.isprintable()
    assert len(message) < 400


@pytest.mark.parametrize(
    "name",
    ["../train.beton", "/etc/passwd", "a/b", "a\\b", "..", ".", "", "a\nb", "a\0b", "x" * 256, "\x1b[2J", "ä" * 128],
)
def test_names_that_are_no_plain_file_names_are_refused(saved: Path, name: str) -> None:
    for keys in [
        ("splits", "train", "shards", 0, "beton", "name"),
        ("splits", "train", "shards", 0, "index", "name"),
        ("splits", "val", "label_sets", "real", "name"),
    ]:
        before = (saved / "manifest.json").read_text()
        edit(saved, *keys, value=name)
        with pytest.raises(StoreError, match="no plain file name"):
            Manifest.load(saved)
        (saved / "manifest.json").write_text(before)
    edit(saved, "splits", value={name: {}})
    with pytest.raises(StoreError, match="no plain file name"):
        Manifest.load(saved)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("splits",), {}),
        (("splits", "train", "shards"), []),
        (("splits", "train", "num_samples"), -1),
        (("splits", "train", "mean_bytes"), float("nan")),
        (("splits", "train", "mean_bytes"), float("inf")),
        pytest.param(("splits", "train", "mean_bytes"), 10**400, id="too large for a float"),
        (("splits", "train", "class_counts"), [1, -1]),
        (("splits", "train", "shards", 0, "beton", "sha256"), "abc"),
        (("splits", "train", "shards", 0, "beton", "sha256"), "A" * 64),
        (("splits", "train", "shards", 0, "beton", "sha256"), "a" * 64 + "\n"),
        (("splits", "train", "shards", 0, "beton", "size"), 1.5),
    ],
)
def test_values_out_of_range_are_named(saved: Path, keys: tuple[str | int, ...], value: object) -> None:
    edit(saved, *keys, value=value)
    with pytest.raises(StoreError, match=r"manifest\.json: " + r"\.".join(str(key) for key in keys)):
        Manifest.load(saved)


def test_a_million_classes_are_read(saved: Path) -> None:
    content = json.loads((saved / "manifest.json").read_text())
    content["class_names"] = [f"class {k}" for k in range(1_000_000)]
    content["splits"]["train"]["class_counts"] = [0] * 1_000_000
    (saved / "manifest.json").write_text(json.dumps(content))
    manifest = Manifest.load(saved)
    assert manifest.class_names[-1] == "class 999999"
    assert len(manifest.splits["train"].class_counts) == 1_000_000


def test_a_folder_without_one_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a store"):
        Manifest.load(tmp_path)
    with pytest.raises(StoreError, match="no such folder"):
        Manifest.load(tmp_path / "absent")
    with pytest.raises(StoreError, match="cannot be read"):
        Manifest.load(tmp_path / ("x" * 5000))


def test_a_file_is_not_a_missing_folder(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=rf"train\.beton: is a file, and a store is a folder\. Name {saved}\."):
        Manifest.load(saved / "train.beton")
    (tmp_path / "alone").write_text("")
    with pytest.raises(StoreError, match=r"alone: is a file, and a store is a folder\. Name the folder that `"):
        Manifest.load(tmp_path / "alone")


def test_what_is_wrong_is_not_told_in_the_words_of_a_parser(saved: Path) -> None:
    edit(saved, "splits", "train", "num_samples", value="two")
    with pytest.raises(
        StoreError, match=r"splits\.train\.num_samples: it should be a valid integer.*\. It was changed"
    ):
        Manifest.load(saved)
    edit(saved, "splits", "train", "shards", 0, "beton", "name", value="../x")
    with pytest.raises(StoreError, match=r"beton\.name: '\.\./x' is no plain file name"):
        Manifest.load(saved)
