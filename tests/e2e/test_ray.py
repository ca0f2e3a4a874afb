"""Conversions on a Ray of this machine with two workers: the bytes of the local engine, whatever dies."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sources
from sources import BytesEntry, ListSource, good_entries, jpeg

from datasets_tools.conversion import convert as convert_module
from datasets_tools.conversion import shards as shards_module
from datasets_tools.conversion.convert import ConvertOptions, convert
from datasets_tools.conversion.estimate import Estimate
from datasets_tools.conversion.progress import Progress
from datasets_tools.errors import ConversionError
from datasets_tools.store.manifest import Manifest
from fastbot.cli import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Two workers that can import what tests share."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        folders = [str(Path(sources.__file__).parent), str(Path(__file__).parent), str(Path(__file__).parents[2])]
        patch.setenv("PYTHONPATH", os.pathsep.join(folders))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init("local", num_cpus=2, log_to_driver=False, include_dashboard=False)
        yield
        ray.shutdown()


@pytest.fixture(autouse=True)
def not_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only tasks read pictures."""
    monkeypatch.setattr(convert_module, "estimate", lambda *_: Estimate(0, 0.0, 0, 0))


@dataclass(frozen=True)
class WatchedEntry(BytesEntry):
    """Writes down who is read, and fails at its first reads as it is told; a checkpoint follows every second one."""

    log: str
    failure: str = ""
    num_failures: int = 1

    def read(self) -> bytes:
        shards_module.CHECKPOINT_SAMPLES = 2
        with Path(self.log).open("a") as log:
            log.write(f"{self.key}\n")
        if self.failure and reads(self.log).count(self.key) <= self.num_failures:
            if self.failure == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise FileNotFoundError(2, "No such file or directory", self.key)
        return self.data


def reads(log: str | Path) -> list[str]:
    return Path(log).read_text().splitlines()


def watched(log: Path, failing: str = "", **failure: Any) -> ListSource:
    """The pictures of `plain`, one of which fails."""
    entries = {"train": good_entries("t", 20), "val": good_entries("v", 8)}
    return ListSource(
        {
            split: [
                WatchedEntry(entry.key, entry.label, entry.data, str(log), **(failure if entry.key == failing else {}))
                for entry in listed
            ]
            for split, listed in entries.items()
        }
    )


def plain() -> ListSource:
    return ListSource({"train": good_entries("t", 20), "val": good_entries("v", 8)})


def run(source: ListSource, destination: str | Path, **options: Any) -> Manifest:
    return convert(source, destination, ConvertOptions("0", **{"shards": 2, "engine": "ray"} | options))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the local engine writes."""
    folder = tmp_path_factory.mktemp("local") / "store"
    run(plain(), folder, engine="local")
    return contents(folder)


def test_the_bytes_are_those_of_the_local_engine(tmp_path: Path, local: dict[str, bytes]) -> None:
    seen: list[Progress] = []
    lines: list[str] = []
    convert(plain(), tmp_path / "store", ConvertOptions("0", shards=2, engine="ray"), seen.append, lines.append)
    assert contents(tmp_path / "store") == local
    assert (seen[-1].num_done, seen[-1].num_total) == (28, 28)
    assert seen[-1].num_bytes > 0
    assert not [line for line in lines if "more --shards" in line]  # four shards keep two workers busy


def test_too_few_shards_are_noted(tmp_path: Path) -> None:
    lines: list[str] = []
    source = ListSource({"train": good_entries("t", 4)})
    convert(source, tmp_path / "store", ConvertOptions("0", engine="ray"), say=lines.append)
    assert lines[-1].startswith("note: 1 shard for the cluster's 2 CPUs")


def test_bad_pictures_are_left_out_as_the_local_engine_does(tmp_path: Path) -> None:
    source = ListSource({"train": [*good_entries("t", 6), BytesEntry("bad.jpg", 0, b"bad")]})
    for engine in ("ray", "local"):
        run(source, tmp_path / engine, engine=engine, on_bad_image="skip")
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    with pytest.raises(ConversionError, match=r"bad\.jpg"):
        run(source, tmp_path / "refused")


def test_after_a_killed_worker_the_shard_is_gone_on_with(tmp_path: Path, local: dict[str, bytes]) -> None:
    log = tmp_path / "log"
    run(watched(log, "t9.jpg", failure="kill"), tmp_path / "store")
    assert contents(tmp_path / "store") == local
    assert reads(log).count("t9.jpg") == 2
    assert reads(log).count("t0.jpg") == 1  # the journal spoke of it


def test_a_worker_that_always_dies_is_one_clear_error(tmp_path: Path, local: dict[str, bytes]) -> None:
    source = watched(tmp_path / "log", "t19.jpg", failure="kill", num_failures=99)
    with pytest.raises(ConversionError, match=r"shard train-00001-of-00002: its task died 4 times"):
        run(source, tmp_path / "store")
    run(plain(), tmp_path / "store", engine="local", resume=True)
    assert contents(tmp_path / "store") == local


def test_a_source_that_is_gone_for_a_moment_is_tried_again(tmp_path: Path, local: dict[str, bytes]) -> None:
    run(watched(tmp_path / "log", "v5.jpg", failure="gone", num_failures=2), tmp_path / "store")
    assert contents(tmp_path / "store") == local


def test_a_source_that_is_gone_is_one_clear_error_and_the_local_engine_goes_on(
    tmp_path: Path, local: dict[str, bytes]
) -> None:
    log = tmp_path / "log"
    with pytest.raises(ConversionError, match=r"shard val-00001-of-00002, on node .*v.*No such file.*--resume"):
        run(watched(log, "v7.jpg", failure="gone", num_failures=99), tmp_path / "store")
    assert reads(log).count("v7.jpg") == 4
    log.write_text("")
    run(watched(log), tmp_path / "store", engine="local", resume=True)
    assert contents(tmp_path / "store") == local
    assert "v4.jpg" not in reads(log)


def test_nodes_upload_to_a_url_themselves(tmp_path: Path, local: dict[str, bytes]) -> None:
    log = tmp_path / "log"
    options = {"work_folder": tmp_path / "work"}
    with pytest.raises(ConversionError, match=r"shard val-00001-of-00002"):
        run(watched(log, "v7.jpg", failure="gone", num_failures=99), f"file://{tmp_path}/store", **options)
    assert not (tmp_path / "store" / "manifest.json").exists()
    log.write_text("")
    run(watched(log, "v6.jpg", failure="kill"), f"file://{tmp_path}/store", resume=True, **options)
    assert contents(tmp_path / "store") == local
    assert "t0.jpg" not in reads(log)
    assert not list((tmp_path / "work").iterdir())
    assert not list(Path(tempfile.gettempdir()).glob("fastbot-*-0000*"))


def test_the_command_knows_ray(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label, name in enumerate(("cat", "dog")):
        for split in ("train", "val"):
            (tmp_path / "in" / split / name).mkdir(parents=True)
            (tmp_path / "in" / split / name / "1.jpg").write_bytes(jpeg(seed=label))
    with pytest.raises(SystemExit) as end:
        main(["convert", "folder", f"{tmp_path}/in", f"{tmp_path}/store", "--engine", "ray", "--workers", "1"])
    assert end.value.code == 0
    assert "2 classes" in capsys.readouterr().out
