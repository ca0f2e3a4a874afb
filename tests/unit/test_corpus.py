from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import get_sampling
from typer.testing import CliRunner

from benchmarks.corpora import corpus
from benchmarks.corpora import recipe as corpus_recipe
from benchmarks.corpora.corpus import CorpusStatistics, write_corpus
from benchmarks.corpora.recipe import FILE_BYTES, SIZES, CorpusEntry, CorpusSource
from datasets_tools import photographs
from datasets_tools.errors import StoreError
from datasets_tools.store import Store


@pytest.fixture(autouse=True)
def no_wallpapers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every machine draw the same corpus."""
    monkeypatch.setattr(photographs, "_wallpaper_paths", dict)
    corpus_recipe._candidates.cache_clear()
    yield
    corpus_recipe._candidates.cache_clear()


@pytest.fixture
def wallpaper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Install one wallpaper of 4500x3200 px."""
    path = tmp_path / "Huge.jpg"
    Image.new("RGB", (4500, 3200), "green").save(path)
    monkeypatch.setattr(photographs, "_wallpaper_paths", lambda: {"Huge": path})
    photographs.shape.cache_clear()
    return "Huge"


def stored_size(entry: CorpusEntry) -> tuple[int, int]:
    height, width = entry.size
    return (height, width) if entry.orientation in (6, 8) else (width, height)


def decode(stored: bytes) -> Image.Image:
    with Image.open(io.BytesIO(stored)) as picture:
        picture.load()
        return picture


def small_entry(**changes: object) -> CorpusEntry:
    fields: dict[str, object] = {
        "key": "0.jpg",
        "label": 0,
        "photograph": "coffee",
        "window": (10, 20, 120, 180),
        "size": (60, 90),
        "storage": "4:2:0",
        "progressive": False,
        "orientation": 1,
        "target_bytes": 3000,
        "is_reduced": False,
    }
    return CorpusEntry(**{**fields, **changes})  # type: ignore[arg-type]


def test_tables_are_what_the_design_asks_for() -> None:
    shares = [share for _, _, share in SIZES]
    assert sum(shares) == pytest.approx(1)
    assert sum(width * share for width, _, share in SIZES) == pytest.approx(469, abs=4)
    assert sum(height * share for _, height, share in SIZES) == pytest.approx(387, abs=4)
    assert max(SIZES, key=lambda row: row[2])[:2] == (500, 375)
    assert max((row for row in SIZES if row[0] < row[1]), key=lambda row: row[2])[:2] == (375, 500)
    assert max(width for width, _, _ in SIZES) == 4000
    quantiles, file_bytes = np.array(FILE_BYTES).T
    assert np.trapezoid(file_bytes, quantiles) == pytest.approx(110_000, rel=0.03)


def test_sizes_are_met_as_exactly_as_the_count_allows(wallpaper: str) -> None:
    count = 400
    drawn = Counter(stored_size(entry) for entry in CorpusSource(count, 5).splits["train"].entries)
    for width, height, share in SIZES:
        assert abs(drawn[width, height] - share * count) <= 1


def test_shares_are_met_as_exactly_as_the_count_allows() -> None:
    entries = CorpusSource(1000, 5).splits["train"].entries
    storages = Counter(entry.storage for entry in entries)
    assert storages == {"4:4:4": 700, "4:2:0": 285, "grey": 15}
    assert sum(entry.progressive for entry in entries) == 50
    assert Counter(entry.orientation for entry in entries) == {1: 990, 6: 5, 8: 5}


def test_targets_follow_the_byte_table() -> None:
    entries = CorpusSource(1000, 5).splits["train"].entries
    targets = np.array([entry.target_bytes for entry in entries])
    for quantile, file_bytes in FILE_BYTES[1:-2]:
        assert np.quantile(targets, quantile) == pytest.approx(file_bytes, rel=0.03)
    areas = np.array([entry.size[0] * entry.size[1] for entry in entries])
    assert np.corrcoef(np.log(areas), np.log(targets))[0, 1] > 0.7


def test_nothing_is_enlarged_and_colour_comes_from_colour() -> None:
    for entry in CorpusSource(500, 6).splits["train"].entries:
        top, left, height, width = entry.window
        room = photographs.shape(entry.photograph)
        assert min(top, left) >= 0
        assert top + height <= room[0]
        assert left + width <= room[1]
        assert entry.size[0] <= height <= 3 * entry.size[0]
        assert entry.size[1] <= width <= 3 * entry.size[1]
        assert entry.storage == "grey" or not photographs.is_grey(entry.photograph)


def test_without_wallpapers_large_pictures_are_as_large_as_possible() -> None:
    reduced = [entry for entry in CorpusSource(1000, 5).splits["train"].entries if entry.is_reduced]
    assert {entry.photograph for entry in reduced} == {"retina"}
    assert all(max(entry.size) == 1411 for entry in reduced)
    # As many as the table has sizes beyond 1411 px.
    assert abs(len(reduced) - 1000 * sum(s for w, h, s in SIZES if max(w, h) > 1411)) <= 2


def test_wallpapers_serve_what_is_too_large_for_the_packages(wallpaper: str) -> None:
    entries = CorpusSource(1000, 5).splits["train"].entries
    assert not any(entry.is_reduced for entry in entries)
    from_wallpaper = [entry for entry in entries if entry.photograph == wallpaper]
    assert from_wallpaper
    assert all(max(entry.size) > 1411 for entry in from_wallpaper)


@pytest.mark.parametrize("target_bytes", [1, 1500, 3000, 6000, 10**6])
@pytest.mark.parametrize("storage", ["4:2:0", "4:4:4", "grey"])
def test_quality_is_the_best_of_all(target_bytes: int, storage: str) -> None:
    entry = small_entry(target_bytes=target_bytes, storage=storage)
    pixels = photographs.load("coffee")[10:130, 20:200]
    picture = Image.fromarray(pixels).resize((90, 60), Image.Resampling.LANCZOS)
    if storage == "grey":
        picture = picture.convert("L")
    sizes = []
    for quality in range(20, 101):
        stored = io.BytesIO()
        picture.save(stored, "JPEG", quality=quality, subsampling=storage if storage != "grey" else "4:4:4")
        sizes.append(stored.tell())
    nearest = min(abs(size - target_bytes) for size in sizes)
    assert abs(len(entry.read()) - target_bytes) == nearest


@pytest.mark.parametrize(("storage", "mode", "sampling"), [("4:2:0", "RGB", 2), ("4:4:4", "RGB", 0), ("grey", "L", -1)])
@pytest.mark.parametrize("progressive", [False, True])
def test_storage_is_as_drawn(storage: str, mode: str, sampling: int, progressive: bool) -> None:
    picture = decode(small_entry(storage=storage, progressive=progressive).read())
    assert picture.mode == mode
    assert bool(picture.info.get("progressive")) == progressive
    if mode == "RGB":
        assert get_sampling(picture) == sampling


@pytest.mark.parametrize("orientation", [6, 8])
def test_rotated_pictures_stand_upright_once_exif_is_applied(orientation: int) -> None:
    upright = decode(small_entry(target_bytes=10**6).read())
    lying = decode(small_entry(target_bytes=10**6, orientation=orientation).read())
    assert lying.size == upright.size[::-1]
    turned = ImageOps.exif_transpose(lying)
    difference = np.abs(np.asarray(turned, np.int16) - np.asarray(upright, np.int16))
    assert difference.mean() < 1.5


def test_hash_changes_with_the_recipe_and_with_the_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = CorpusSource(20, 1).recipe_hash
    assert CorpusSource(20, 1).recipe_hash == reference
    assert CorpusSource(20, 2).recipe_hash != reference
    assert CorpusSource(21, 1).recipe_hash != reference
    load = photographs.load
    monkeypatch.setattr(photographs, "load", lambda name: load(name)[::-1].copy())
    assert CorpusSource(20, 1).recipe_hash != reference


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CorpusStatistics]:
    folder = tmp_path_factory.mktemp("corpus") / "store"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(photographs, "_wallpaper_paths", dict)
        corpus_recipe._candidates.cache_clear()
        return folder, write_corpus(folder, count=20, seed=9)


def test_store_holds_the_very_bytes(written: tuple[Path, CorpusStatistics]) -> None:
    store = Store(written[0])
    assert {name: len(split) for name, split in store.splits.items()} == {"train": 20, "val": 10}
    splits = CorpusSource(20, 9).splits
    for name, split in store.splits.items():
        assert split.record.counts.kept == len(split)
        for sample_id in (0, 7):
            assert split.encoded(sample_id).tobytes() == splits[name].entries[sample_id].read()
            assert split.key(sample_id) == splits[name].entries[sample_id].key


def test_statistics_are_those_of_the_stored_files(written: tuple[Path, CorpusStatistics]) -> None:
    folder, statistics = written
    split = Store(folder).split("train")
    files = [split.encoded(sample_id).tobytes() for sample_id in range(len(split))]
    pictures = [decode(file) for file in files]
    assert statistics.mean_bytes == pytest.approx(np.mean([len(file) for file in files]))
    assert statistics.byte_quantiles["0.5"] == int(np.median([len(file) for file in files]))
    assert statistics.mean_width == pytest.approx(np.mean([picture.width for picture in pictures]))
    assert statistics.max_height == max(picture.height for picture in pictures)
    colour = [get_sampling(picture) for picture in pictures if picture.mode == "RGB"]
    assert statistics.shares["4:4:4"] == pytest.approx(colour.count(0) / 20)
    assert statistics.shares["4:2:0"] == pytest.approx(colour.count(2) / 20)
    assert statistics.shares["grey"] == pytest.approx(1 - len(colour) / 20)
    assert statistics.shares["progressive"] == sum(bool(p.info.get("progressive")) for p in pictures) / 20
    assert statistics.size_shares["500x375"] == sum(picture.size == (500, 375) for picture in pictures) / 20
    assert statistics.missed_share == 0


def test_statistics_lie_beside_the_manifest(written: tuple[Path, CorpusStatistics]) -> None:
    folder, statistics = written
    assert CorpusStatistics.load(folder) == statistics
    assert json.loads((folder / "corpus.json").read_text())["recipe_hash"] == statistics.recipe_hash
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []


def test_a_store_that_is_no_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"corpus\.json: cannot be read.*fastbot bench corpus"):
        CorpusStatistics.load(tmp_path)


def test_command_prints_the_statistics(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(corpus.command)
    arguments = [str(tmp_path / "store"), "--count", "3", "--seed", "1", "--workers", "1"]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"}, catch_exceptions=False)
    assert result.exit_code == 0
    statistics = CorpusStatistics.load(tmp_path / "store")
    assert statistics.recipe_hash[:12] in result.output
    assert f"{statistics.mean_bytes / 1e3:.1f} kB" in result.output


def test_workers_do_not_change_the_corpus(tmp_path: Path, written: tuple[Path, CorpusStatistics]) -> None:
    write_corpus(tmp_path / "parallel", count=20, seed=9, workers=2)
    assert (tmp_path / "parallel" / "train.beton").read_bytes() == (written[0] / "train.beton").read_bytes()
