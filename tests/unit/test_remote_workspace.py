from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from remotes import FaultyFileSystem, Times, faulty_file_system
from sources import BytesEntry, GoneEntry, ListSource, good_entries, good_source

from datasets_tools.conversion import convert as convert_module
from datasets_tools.conversion.convert import ConvertOptions, convert
from datasets_tools.conversion.estimate import Estimate
from datasets_tools.conversion.remote_workspace import workspace_of
from datasets_tools.errors import ConversionError
from datasets_tools.sources.base import EntryList
from datasets_tools.store.manifest import Manifest
from fastbot.cli import main

URL = "faulty://bucket/store"


class Killed(BaseException):
    """As good as SIGKILL: nothing handles it."""


@pytest.fixture
def remote_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[FaultyFileSystem]]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets_tools.protocols._PAUSES_S", (0.0, 0.0, 0.0))
    with faulty_file_system() as file_system:
        yield file_system


def source() -> ListSource:
    """Two splits, one of which has further labels."""
    return ListSource(
        {"train": good_entries("t", 7), "val": good_entries("v", 3)},
        label_sets={"val": {"real": [[0], [0, 1], []]}},
    )


def run(destination: str | Path, pictures: ListSource | None = None, **options: Any) -> Manifest:
    return convert(pictures or source(), destination, ConvertOptions("0", **{"shards": 2} | options))


@pytest.fixture
def local(tmp_path: Path) -> dict[str, bytes]:
    """What a conversion to a local folder gives."""
    run(tmp_path / "local")
    return {path.name: path.read_bytes() for path in (tmp_path / "local").iterdir()}


def uploaded(folder: str = "/bucket/store/") -> dict[str, bytes]:
    store = FaultyFileSystem.store
    return {path.removeprefix(folder): file.getvalue() for path, file in store.items() if path.startswith(folder)}


def test_a_remote_store_is_byte_for_byte_the_local_one(
    remote_files: type[FaultyFileSystem], local: dict[str, bytes], tmp_path: Path
) -> None:
    manifest = run(URL)
    assert uploaded() == local
    assert Manifest.parse(URL, local["manifest.json"]) == manifest
    puts = [name for operation, name in remote_files.operations if operation == "put done"]
    assert puts[-2:] == ["val.real.json", "manifest.json"]
    assert sorted(puts) == sorted(local)  # each once
    assert not list((tmp_path / "cache/fastbot/convert").iterdir())


def test_a_file_url_and_a_trailing_slash_are_a_destination_too(
    remote_files: object, local: dict[str, bytes], tmp_path: Path
) -> None:
    run(f"file://{tmp_path}/a/b/store/", work_folder=tmp_path / "work")
    assert {path.name: path.read_bytes() for path in (tmp_path / "a/b/store").iterdir()} == local
    assert not list((tmp_path / "work").iterdir())


def test_local_files_are_gone_once_they_were_read_back(remote_files: type[FaultyFileSystem], tmp_path: Path) -> None:
    folder = workspace_of(URL, None)
    most = []

    def look(operation: str, name: str) -> None:
        most.append(len(list(folder.glob("*.beton"))))

    remote_files.fault = staticmethod(look)
    run(URL, good_source(6, 2), shards=4)
    assert max(most) <= 2
    assert most[-1] == 0


@pytest.mark.parametrize("operation", ["put", "put done", "open", "read", "ls", "pipe"])
def test_errors_that_pass_are_waited_for(
    remote_files: type[FaultyFileSystem], local: dict[str, bytes], operation: str
) -> None:
    remote_files.fault = Times(operation, "", ConnectionError("reset by peer"), count=3)
    run(URL)
    assert uploaded() == local


def test_bytes_that_read_back_wrong_are_uploaded_again(
    remote_files: type[FaultyFileSystem], local: dict[str, bytes]
) -> None:
    spoilt: list[str] = []

    def spoil(name: str, data: bytes) -> bytes:
        if not name.endswith("00001-of-00002.beton") or name in spoilt:
            return data
        spoilt.append(name)
        return bytes([data[0] ^ 1]) + data[1:]

    remote_files.spoil = staticmethod(spoil)
    run(URL)
    assert uploaded() == local
    assert [remote_files.operations.count(("put", name)) for name in spoilt] == [2, 2]


def test_a_file_that_never_reads_back_right_is_one_clear_error(remote_files: type[FaultyFileSystem]) -> None:
    remote_files.spoil = staticmethod(lambda name, data: data[:-1] if name.endswith("1-of-00002.index") else data)
    with pytest.raises(ConversionError, match=r"train-00001-of-00002.index: was uploaded, but reads back.*--resume"):
        run(URL)
    assert "manifest.json" not in uploaded()


@pytest.mark.parametrize(
    ("operation", "suffix", "after"),
    [
        ("put", "train-00001-of-00002.beton", 0),
        ("put done", "train-00001-of-00002.beton", 0),
        ("read", "train-00001-of-00002.beton", 2),
        ("put", "train-00001-of-00002.index", 0),
        ("put", "val-00001-of-00002.beton", 0),
        ("put", "val.real.json", 0),
        ("put done", "val.real.json", 0),
        ("put", "manifest.json", 0),
        ("put done", "manifest.json", 0),
        ("open", "manifest.json", 0),
    ],
)
def test_after_a_kill_the_run_goes_on_to_the_same_bytes(
    remote_files: type[FaultyFileSystem], local: dict[str, bytes], operation: str, suffix: str, after: int
) -> None:
    remote_files.fault = Times(operation, suffix, Killed(), after=after)
    with pytest.raises(Killed):
        run(URL)
    confirmed = [path.name.removesuffix(".uploaded.json") for path in workspace_of(URL, None).glob("*.uploaded.json")]
    with pytest.raises(ConversionError, match="--resume"):
        run(URL)
    remote_files.operations.clear()
    run(URL, resume=True)
    assert uploaded() == local
    again = {name.rsplit(".", 1)[0] for operation, name in remote_files.operations if operation == "put"}
    assert not again & set(confirmed)
    assert not workspace_of(URL, None).exists()


@pytest.mark.parametrize(
    ("error", "count"), [(PermissionError(errno.EACCES, "Access Denied"), 1), (ConnectionError("reset by peer"), 4)]
)
def test_what_does_not_pass_is_one_clear_error_and_can_be_resumed(
    remote_files: type[FaultyFileSystem], local: dict[str, bytes], error: OSError, count: int
) -> None:
    remote_files.fault = Times("put", "val-00000-of-00002.index", error, count=count)
    with pytest.raises(ConversionError, match=rf"val-00000-of-00002.index: .*{error.args[-1]}.*--resume"):
        run(URL)
    assert remote_files.operations.count(("put", "val-00000-of-00002.index")) == count
    run(URL, resume=True)
    assert uploaded() == local


def test_permission_is_asked_for_before_the_work(remote_files: type[FaultyFileSystem], tmp_path: Path) -> None:
    remote_files.fault = Times("pipe", ".writable", PermissionError(errno.EACCES, "Access Denied"), count=9)
    with pytest.raises(ConversionError, match="Access Denied"):
        run(URL)
    assert not [name for operation, name in remote_files.operations if operation == "put"]
    assert not workspace_of(URL, None).exists()


def test_a_store_is_never_overwritten(remote_files: type[FaultyFileSystem], local: dict[str, bytes]) -> None:
    run(URL)
    for resume in (False, True):
        with pytest.raises(ConversionError, match=r"faulty://bucket/store: holds a store already"):
            run(URL, good_source(), resume=resume)
    assert uploaded() == local


def test_strange_files_are_never_overwritten(remote_files: type[FaultyFileSystem]) -> None:
    remote_files().pipe_file("/bucket/store/train.beton", b"precious")
    with pytest.raises(ConversionError, match=r"is not empty \(train.beton"):
        run(URL)
    assert uploaded() == {"train.beton": b"precious"}


def test_another_conversion_is_not_gone_on_with(remote_files: type[FaultyFileSystem]) -> None:
    remote_files.fault = Times("put", "val-00000-of-00002.beton", Killed())
    with pytest.raises(Killed):
        run(URL)
    with pytest.raises(ConversionError, match="was another one .--shards: 2 then, 3 now"):
        run(URL, shards=3, resume=True)


def test_replaced_pictures_replace_their_shard(remote_files: type[FaultyFileSystem], tmp_path: Path) -> None:
    bad = ListSource({"train": [*good_entries("t", 5), BytesEntry("t5.jpg", 1, b"bad")], "val": good_entries("v", 2)})
    with pytest.raises(ConversionError, match="t5.jpg"):
        run(URL, bad)
    # Killed while the mended shard is uploaded: the old one's mark must not stand for it.
    remote_files.fault = Times("put done", "train-00001-of-00002.beton", Killed())
    with pytest.raises(Killed):
        run(URL, good_source(), resume=True)
    run(URL, good_source(), resume=True)
    run(tmp_path / "mended", good_source())
    assert uploaded() == {path.name: path.read_bytes() for path in (tmp_path / "mended").iterdir()}


def test_a_source_that_is_gone_leaves_what_was_uploaded(
    remote_files: type[FaultyFileSystem], local: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert_module, "estimate", lambda *_: Estimate(0, 0.0, 0, 0))
    lost = source()
    lost.splits["val"] = EntryList([*good_entries("v", 2), GoneEntry("v2.jpg", 0)])
    with pytest.raises(ConversionError, match=r"the source cannot be read any more"):
        run(URL, lost)
    assert "train-00001-of-00002.index" in uploaded()
    remote_files.operations.clear()
    run(URL, resume=True)
    assert uploaded() == local
    assert not [name for operation, name in remote_files.operations if operation == "put" and "train" in name]


def test_nothing_done_leaves_nothing(remote_files: type[FaultyFileSystem]) -> None:
    with pytest.raises(ConversionError):
        run(URL, ListSource({"train": [GoneEntry("a", 0), GoneEntry("b", 1)]}))
    assert not workspace_of(URL, None).exists()
    run(URL)  # without --resume


def test_only_two_shards_must_find_room_here(
    remote_files: type[FaultyFileSystem], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines: list[str] = []
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=15_000))  # the store has 40,000
    convert(good_source(8, 8), URL, ConvertOptions("0", shards=8), say=lines.append)
    assert "of it here at once" in lines[0]
    with pytest.raises(ConversionError, match=r"not enough space: .*more --shards"):
        convert(good_source(8, 8), "faulty://bucket/other", ConvertOptions("0", shards=1))


def test_the_command_converts_to_a_url(
    remote_files: type[FaultyFileSystem], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = ["--train-per-class", "1", "--val-per-class", "1", "--workers", "1"]
    with pytest.raises(SystemExit) as end:
        main(["convert", "demo", URL, *demo, "--work-dir", str(tmp_path / "work")])
    assert end.value.code == 0
    assert f"12 classes -> {URL}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["convert", "demo", str(tmp_path / "local"), *demo])
    assert uploaded() == {path.name: path.read_bytes() for path in (tmp_path / "local").iterdir()}


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--ray-address", "auto"], "--engine ray"), (["--work-dir", "work"], "for a DST that is a URL")],
)
def test_options_without_effect_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["convert", "demo", str(tmp_path / "store"), *options])
    assert end.value.code == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", "").split())
    assert not list(tmp_path.iterdir())
