from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
import typer
from benchmark_results import result
from PIL import Image
from stores import StoredPicture, write_split, write_store
from typer.testing import CliRunner

from benchmarks import lines
from benchmarks.corpora import derived as loader_corpora
from benchmarks.corpora.derived import Corpus, by_size, large, progressive, size_bins
from benchmarks.measure import Result
from benchmarks.peers.peer import Peer, PeerInput, Running
from benchmarks.rungs import fidelity, loader, loader_cases
from benchmarks.rungs.loader import Settings, run
from datasets_tools import jpeg
from datasets_tools.jpeg import Subsampling
from datasets_tools.store import Split
from fastbot.errors import RunError
from pipelines.backends import choose
from pipelines.batch import BatchPlan, Decoded


def picture(key: str, quality: int, subsampling: str = "4:2:0") -> StoredPicture:
    """Return a JPEG of noise, the larger the better its quality."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(len(key)).integers(0, 256, (160, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "jpeg", quality=quality, subsampling=subsampling)
    return StoredPicture(key, buffer.getvalue(), 160, 200)


@pytest.mark.parametrize(("raw", "num_shards"), [(True, 1), (False, 2)])
def test_what_stock_loaders_cannot_read_is_not_compared(tmp_path: Path, raw: bool, num_shards: int) -> None:
    stored = StoredPicture("a", bytes(12), 2, 2, raw=raw)
    write_store(tmp_path, {"train": [stored, stored]}, num_shards=num_shards)
    with pytest.raises(RunError, match=f"has {num_shards} shards and {2 * raw} raw pictures"):
        run(tmp_path, Settings(batch_size=2))


def test_fewer_pictures_than_a_batch_are_refused(tmp_path: Path) -> None:
    write_store(tmp_path, {"train": [picture("a", 20)]})
    with pytest.raises(RunError, match="has 1 pictures, and a batch 64: give --batch-size 1 or less"):
        run(tmp_path)


def test_bins_meet_half_way_in_logarithms() -> None:
    sizes = np.array(
        [40_000, 41_000, 50_000, 61_000, 62_000, 75_000, 90_000, 92_000, 110_000, 132_000, 133_000, 194_000]
    )
    bins = {kilobytes: sizes[ids].tolist() for kilobytes, ids in size_bins(sizes.astype(np.uint64)).items()}
    assert bins == {
        50: [41_000, 50_000, 61_000],
        75: [62_000, 75_000, 90_000],
        110: [92_000, 110_000, 132_000],
        160: [133_000],
    }


def test_a_bin_is_a_store_of_its_pictures_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_corpora, "NUM_PICTURES", 6)
    monkeypatch.setattr(loader_corpora, "SIZE_BINS", (10, 20))
    pictures = [picture(f"{quality}", quality) for quality in (30, 64, 66)]
    small, large = by_size(write_split(tmp_path, pictures), tmp_path / "bins")
    assert (small.label, large.label) == ("10 kB", "20 kB")
    assert stored_bytes(small.ours) == [pictures[0].data] * 6
    assert stored_bytes(large.ours) == [pictures[1].data, pictures[2].data] * 3
    assert large.originals is large.ours


def test_an_empty_bin_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no picture of about 50 kB"):
        by_size(write_split(tmp_path, [picture("a", 20)]), tmp_path / "bins")
    assert not (tmp_path / "bins").exists()


def test_progressive_originals_show_what_we_read_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_corpora, "NUM_PICTURES", 3)
    pictures = [picture("a", 60), picture("bb", 80, "4:4:4"), picture("ccc", 90)]
    corpus = progressive(write_split(tmp_path, pictures), tmp_path / "progressive")
    for ours, original in zip(stored_bytes(corpus.ours), stored_bytes(corpus.originals), strict=True):
        assert jpeg.inspect(original).progressive
        assert not jpeg.inspect(ours).progressive
        np.testing.assert_array_equal(jpeg.decode(ours), jpeg.decode(original))


def stored_bytes(split: Split) -> list[bytes]:
    return [split.encoded(sample_id).tobytes() for sample_id in range(len(split))]


def test_large_pictures_are_cut_from_wallpapers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which there may be none here: the packaged photographs stand in."""
    monkeypatch.setattr(loader_corpora, "NUM_PICTURES", 4)
    monkeypatch.setattr(loader_corpora, "NUM_LARGE", 4)
    monkeypatch.setattr(loader_corpora, "LARGE", (90, 120))
    monkeypatch.setattr(loader_corpora.photographs, "wallpapers", loader_corpora.photographs.photographs)
    corpus = large(tmp_path)
    assert corpus.label == "120x90"
    headers = [jpeg.inspect(data) for data in stored_bytes(corpus.ours)]
    assert {(header.height, header.width, header.subsampling) for header in headers} == {(90, 120, Subsampling.S420)}
    assert len({*stored_bytes(corpus.ours)}) == 4
    assert corpus.originals is corpus.ours


def test_large_pictures_need_wallpapers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_corpora.photographs, "wallpapers", dict)
    with pytest.raises(RunError, match="apt-get install mate-backgrounds"):
        large(tmp_path)


class Instant:
    """Delivers batches at once, and keeps which pictures were asked for."""

    def __init__(self) -> None:
        self.ids: list[np.ndarray] = []

    def pixels(self, plans: Iterable[BatchPlan]) -> Iterator[Decoded]:
        for plan in plans:
            self.ids.append(plan.ids)
            yield Decoded(torch.zeros(len(plan.ids), 4, 4, 3, dtype=torch.uint8), {})

    def close(self) -> None:
        pass


@pytest.mark.parametrize("num_threads", [1, 2, 16])
def test_a_turn_has_eight_batches_for_each_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_threads: int
) -> None:
    """A worker that makes whole batches is idle at the end of an epoch; ours, which share each batch, get as many."""
    pictures, batch_size = 5, 2
    split = write_split(tmp_path, [picture(f"{k}", 20) for k in range(pictures)])
    asked: list[PeerInput] = []

    class Theirs:
        name, title, notes = "theirs", "theirs", ""

        def build(self, work: PeerInput) -> Running:
            asked.append(work)
            return Running(list)

    backend = Instant()
    usable = {"turbo": choose.BackendStatus("turbo", True, None, "", "")}
    monkeypatch.setattr(loader_cases.choose, "available", lambda: usable)
    monkeypatch.setattr(loader_cases.choose, "build", lambda *_, **__: backend)
    settings = Settings(size=32, batch_size=batch_size, threads=(num_threads,))
    corpus = loader_corpora.whole(split)
    with ExitStack() as stack:
        cases = loader_cases.LoaderCases(corpus, settings, [cast(Peer, Theirs())], tmp_path / "own", stack)
        found = {case.name: case for case in cases.with_threads(num_threads)}
        (work,) = asked
        num_shown = found["fastbot turbo"].run()
        decoding = found["turbo's region decode alone"]
        decoding.before()
        assert decoding.run() == num_shown
    assert len(work.files) // batch_size >= 8 * num_threads
    assert num_shown // batch_size >= 8 * num_threads
    assert abs(len(work.files) - num_shown) <= work.times * batch_size  # each epoch's last, incomplete batch
    assert work.times == len(work.files) / pictures
    times = np.bincount([int(file.name.partition("-")[2].removesuffix(".jpg")) for file in work.files])
    assert times.tolist() == [work.times] * pictures
    assert {file.read_bytes() for file in work.files} == {*stored_bytes(split)}
    assert np.bincount(np.concatenate(backend.ids)).min() > 0


@pytest.mark.parametrize("missing", ["bin", "wallpapers", "pictures"])
def test_what_cannot_be_measured_is_told_before_anything_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(loader, "_measured", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr(loader_corpora, "NUM_PICTURES", 4)
    monkeypatch.setattr(loader_corpora.photographs, "wallpapers", dict)
    write_store(tmp_path / "store", {"train": [picture(f"{k}", 20) for k in range(4)]})
    match missing:
        case "bin":
            with pytest.raises(RunError, match="no picture of about 50 kB"):
                run(tmp_path / "store", Settings(batch_size=2, peers=("torchvision",)), bins=True)
        case "wallpapers":
            with pytest.raises(RunError, match="apt-get install mate-backgrounds"):
                run(tmp_path / "store", Settings(batch_size=2, peers=("torchvision",)), large_pictures=True)
        case _:
            monkeypatch.setattr(loader_corpora, "NUM_PICTURES", 3)
            with pytest.raises(RunError, match="of progressive has 3 pictures, and a batch 4: give --batch-size 3"):
                run(tmp_path / "store", Settings(batch_size=4, peers=("torchvision",)), progressive_sources=True)


def test_results_are_published_corpus_by_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured stays where a later set of pictures fails."""
    monkeypatch.setattr(loader_corpora, "NUM_PICTURES", 4)

    def measured(corpus: Corpus, settings: Settings) -> list[Result]:
        if corpus.label:
            raise RunError("the disk is full")
        return [result("first")]

    monkeypatch.setattr(loader, "_measured", measured)
    write_store(tmp_path / "store", {"train": [picture(f"{k}", 20) for k in range(4)]})
    file = tmp_path / "lines.jsonl"
    words = ["--data", str(tmp_path / "store"), "--batch-size", "2", "--peers", "torchvision", "--progressive"]
    app = typer.Typer()
    app.command()(loader.command)
    ended = CliRunner().invoke(app, [*words, "--json", str(file)])
    assert str(ended.exception) == "the disk is full"
    (line,) = lines.load(file)
    assert line.result.case == "first"
    assert line.conditions["num_pictures"] == 4


@pytest.mark.slow
def test_every_corpus_and_thread_count_is_measured_beside_its_peers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the backends that need no other package."""
    status = choose.available()
    monkeypatch.setattr(loader_cases.choose, "available", lambda: {name: status[name] for name in ("torch", "turbo")})
    monkeypatch.setattr(loader_corpora, "NUM_PICTURES", 4)
    monkeypatch.setattr(loader_corpora, "NUM_LARGE", 1)
    monkeypatch.setattr(loader_corpora, "LARGE", (90, 120))
    monkeypatch.setattr(loader_corpora.photographs, "wallpapers", loader_corpora.photographs.photographs)
    monkeypatch.setattr(loader_corpora, "SIZE_BINS", (10,))
    monkeypatch.setattr(loader_corpora, "size_bins", lambda sizes: {10: np.arange(2)})
    monkeypatch.setattr(fidelity, "NUM_CROPS", 4)
    write_store(tmp_path / "store", {"train": [picture(f"{k}", 50) for k in range(4)]})
    settings = Settings(size=32, batch_size=2, threads=(1, 2), repeats=1, peers=("torchvision",))
    results = run(tmp_path / "store", settings, bins=True, progressive_sources=True, large_pictures=True)
    stock, alone = "torchvision DataLoader", "turbo's region decode alone"
    pairs = [(stock, stock), ("fastbot torch", stock), ("fastbot turbo", stock), ("fastbot turbo", alone)]
    pairs.append((alone, alone))
    expected = []
    for threads in ("1 thread", "2 threads"):
        expected += [(f"{case}, {threads}", f"{peer}, {threads}") for case, peer in pairs]
    expected += [(f"{case}, 2 threads", f"{case}, 1 thread") for case in {case for case, _ in pairs}]
    for label in ("10 kB", "progressive", "120x90"):
        expected += [(f"{case}, {label}", f"{peer}, {label}") for case, peer in pairs]
    assert sorted((result.case, result.peer) for result in results) == sorted(expected)
    assert all(result.value > 0 for result in results)
    ours = [result for result in results if result.case.startswith("fastbot")]
    assert all(result.details["psnr"]["num_crops"] == 4 for result in ours)
    assert {result.details["threads"] for result in results if "120x90" in result.case} == {2}
