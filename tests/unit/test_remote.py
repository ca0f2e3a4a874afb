from __future__ import annotations

import errno
import hashlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from remotes import FaultyFileSystem, Times, faulty_file_system
from stores import StoredPicture, write_store

from datasets_tools import remote
from datasets_tools.errors import ConversionError, DataError, StoreError
from datasets_tools.exchange.fetch import fetch
from datasets_tools.store import Store
from datasets_tools.store.manifest import FileRecord, Manifest
from fastbot.cli import main

URL = "faulty://bucket/store"


class Killed(BaseException):
    """As good as SIGKILL: nothing handles it."""


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FaultyFileSystem]]:
    monkeypatch.setattr("datasets_tools.protocols._PAUSES_S", (0.0, 0.0, 0.0))
    with faulty_file_system() as file_system:
        yield file_system


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A store of several files, one of which takes several reads."""
    pictures = [StoredPicture(f"{k}.jpg", bytes([k + 1]) * (3000 + 4000 * k), 8, 8) for k in range(6)]
    splits = {"train": pictures, "val": pictures[:2]}
    write_store(tmp_path / "original", splits, num_shards=2, label_sets={"val": {"real": [[0], []]}})
    return tmp_path / "original"


@pytest.fixture
def uploaded(files: type[FaultyFileSystem], original: Path) -> dict[str, bytes]:
    """The files of a store at `URL`."""
    for path in original.iterdir():
        files().pipe_file(f"/bucket/store/{path.name}", path.read_bytes())
    return contents(original)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def largest(uploaded: dict[str, bytes]) -> str:
    return max(uploaded, key=lambda name: len(uploaded[name]))


def test_a_fetched_store_is_the_one_that_was_uploaded(uploaded: dict[str, bytes], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    manifest = fetch(f"{URL}/", tmp_path / "a" / "store", lambda done, total: seen.append((done, total)))
    assert contents(tmp_path / "a" / "store") == uploaded
    assert manifest == Store(tmp_path / "a" / "store").manifest
    total = sum(len(data) for name, data in uploaded.items() if name != "manifest.json")
    assert seen[-1] == (total, total)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["store"]


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_path_and_a_file_url_can_be_fetched(original: Path, tmp_path: Path, prefix: str) -> None:
    fetch(f"{prefix}{original}", tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(original)


def test_a_lost_connection_is_gone_on_with_where_it_broke(
    files: type[FaultyFileSystem], uploaded: dict[str, bytes], tmp_path: Path
) -> None:
    name = largest(uploaded)
    num_reads = -(-len(uploaded[name]) // 4096)
    # More losses than are forgiven in a row, but each one came further.
    losses = iter([False, True] * 6)

    def fault(operation: str, path: str) -> None:
        if (operation, path) == ("read", name) and next(losses, False):
            raise ConnectionError("reset by peer")

    files.fault = staticmethod(fault)
    fetch(URL, tmp_path / "store")
    assert contents(tmp_path / "store") == uploaded
    assert files.operations.count(("read", name)) == num_reads + 6


@pytest.mark.parametrize("operation", ["open", "read"])
def test_a_connection_that_stays_lost_is_one_clear_error_and_what_is_here_is_kept(
    files: type[FaultyFileSystem], uploaded: dict[str, bytes], tmp_path: Path, operation: str
) -> None:
    name = largest(uploaded)
    files.fault = Times(operation, name, ConnectionError("reset by peer"), count=4, after=operation == "read")
    with pytest.raises(StoreError, match=r"faulty://bucket/store: cannot be fetched.*reset by peer.*tried 4 times.*go"):
        fetch(URL, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    kept = contents(tmp_path / ".store.partial")
    assert all(data == uploaded[name][: len(data)] for name, data in kept.items() if name in uploaded)
    files.operations.clear()
    fetch(URL, tmp_path / "store")
    assert contents(tmp_path / "store") == uploaded
    whole = {name for name, data in kept.items() if uploaded.get(name) == data}
    read = {name for operation, name in files.operations if operation == "open"}
    assert not read & whole


def test_a_kill_in_the_middle_is_gone_on_with(
    files: type[FaultyFileSystem], uploaded: dict[str, bytes], tmp_path: Path
) -> None:
    name = largest(uploaded)
    files.fault = Times("read", name, Killed(), after=2)
    with pytest.raises(Killed):
        fetch(URL, tmp_path / "store")
    assert (tmp_path / ".store.partial" / name).read_bytes() == uploaded[name][: 2 * 4096]
    files.operations.clear()
    fetch(URL, tmp_path / "store")
    assert contents(tmp_path / "store") == uploaded
    assert files.operations.count(("read", name)) <= -(-len(uploaded[name]) // 4096) - 1


def test_a_kill_while_the_fetch_is_noted_does_not_lock_it_out(
    uploaded: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = tmp_path / ".store.partial"
    partial.mkdir()
    (partial / ".fetched.json.partial").write_bytes(b"{torn")

    def killed(path: Path, data: bytes) -> None:
        raise Killed

    name = largest(uploaded)
    fetched = partial / name
    with monkeypatch.context() as patch:
        patch.setattr("datasets_tools.exchange.fetch.publish", killed)
        with pytest.raises(Killed):
            fetch(URL, tmp_path / "store")
        patch.setattr("datasets_tools.exchange.fetch.write_whole", killed)
        with pytest.raises(Killed):
            fetch(URL, tmp_path / "store")
    assert fetched.read_bytes() == uploaded[name]
    fetch(URL, tmp_path / "store")
    assert contents(tmp_path / "store") == uploaded


def test_a_kill_before_the_renaming_is_made_good(
    uploaded: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(folder: Path, destination: Path) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("datasets_tools.exchange.fetch.publish", killed)
        with pytest.raises(Killed):
            fetch(URL, tmp_path / "store")
    fetch(URL, tmp_path / "store")
    assert contents(tmp_path / "store") == uploaded


def test_what_arrives_damaged_is_fetched_again(
    files: type[FaultyFileSystem], uploaded: dict[str, bytes], tmp_path: Path
) -> None:
    spoilt: list[str] = []

    def spoil(name: str, data: bytes) -> bytes:
        if name in ("manifest.json", *spoilt):
            return data
        spoilt.append(name)
        return bytes([data[0] ^ 1]) + data[1:]

    files.spoil = staticmethod(spoil)
    seen: list[tuple[int, int]] = []
    fetch(URL, tmp_path / "store", lambda done, total: seen.append((done, total)))
    assert contents(tmp_path / "store") == uploaded
    assert sorted(spoilt) == sorted(set(uploaded) - {"manifest.json"})
    assert seen[-1][0] == seen[-1][1]


def test_what_is_damaged_there_is_one_clear_error(
    files: type[FaultyFileSystem], uploaded: dict[str, bytes], tmp_path: Path
) -> None:
    name = "val-00001-of-00002.beton"
    files().pipe_file(f"/bucket/store/{name}", bytes(len(uploaded[name])))
    found = hashlib.sha256(bytes(len(uploaded[name]))).hexdigest()
    with pytest.raises(StoreError, match=rf"store/{name}: is damaged: its SHA-256 is {found}"):
        fetch(URL, tmp_path / "store")
    assert not (tmp_path / ".store.partial" / name).exists()
    assert files.operations.count(("open", name)) == 2
    files().pipe_file(f"/bucket/store/{name}", uploaded[name])
    fetch(URL, tmp_path / "store")
    assert contents(tmp_path / "store") == uploaded


@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_of_another_size_is_one_clear_error(
    files: type[FaultyFileSystem], uploaded: dict[str, bytes], tmp_path: Path, change: int
) -> None:
    name = "val-00001-of-00002.index"
    data = uploaded[name]
    files().pipe_file(f"/bucket/store/{name}", data[:-1] if change < 0 else b"0" + data)
    with pytest.raises(StoreError, match=rf"{name}: (ends early|is damaged)"):
        fetch(URL, tmp_path / "store")


def test_damage_here_is_found_and_mended(
    files: type[FaultyFileSystem], uploaded: dict[str, bytes], tmp_path: Path
) -> None:
    files.fault = Times("read", largest(uploaded), Killed(), after=2)
    with pytest.raises(Killed):
        fetch(URL, tmp_path / "store")
    folder = tmp_path / ".store.partial"
    (folder / largest(uploaded)).write_bytes(bytes(4096))  # a power cut lost a block
    (folder / "val.real.json").write_bytes(bytes(10_000))
    fetch(URL, tmp_path / "store")
    assert contents(tmp_path / "store") == uploaded


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not a whole store"),
        (b"{", "cannot be parsed"),
        (b"[" * 100_000, "cannot be parsed"),
        (b"[]", "holds no JSON object"),
        (b"{}", "of another version"),
        (b'{"format_version": 3}', "is damaged"),
    ],
)
def test_what_is_no_store_is_refused(
    files: type[FaultyFileSystem], uploaded: dict[str, bytes], tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is None:
        files().rm_file("/bucket/store/manifest.json")
    else:
        files().pipe_file("/bucket/store/manifest.json", content)
    with pytest.raises(StoreError, match=message):
        fetch(URL, tmp_path / "store")
    assert not list(tmp_path.glob(".store*"))


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "manifest.json", "train-00000-of-00002.index"])
def test_a_hostile_manifest_writes_nothing(
    files: type[FaultyFileSystem], uploaded: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    manifest = uploaded["manifest.json"].replace(b'"train-00001-of-00002.beton"', f'"{name}"'.encode())
    files().pipe_file("/bucket/store/manifest.json", manifest)
    with pytest.raises(StoreError, match=r"no plain file name|names two files"):
        fetch(URL, tmp_path / "x" / "store")
    assert not (tmp_path / "x").exists()


def test_a_missing_file_is_one_clear_error(
    files: type[FaultyFileSystem], uploaded: dict[str, bytes], tmp_path: Path
) -> None:
    files().rm_file("/bucket/store/val.real.json")
    with pytest.raises(StoreError, match=r"is not a whole store: .*val.real.json: no such file"):
        fetch(URL, tmp_path / "store")


def test_space_is_checked_first(
    files: type[FaultyFileSystem], uploaded: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(StoreError, match="not enough space"):
        fetch(URL, tmp_path / "store")
    assert {name for operation, name in files.operations if operation == "open"} == {"manifest.json"}


def test_a_full_disk_is_one_clear_error(
    uploaded: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StoreError, match=r"cannot be fetched: .*No space left on device.*is kept"):
            fetch(URL, tmp_path / "store")
    fetch(URL, tmp_path / "store")
    assert contents(tmp_path / "store") == uploaded


def test_nothing_here_is_overwritten(uploaded: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("precious")
    with pytest.raises(ConversionError, match="is not empty"):
        fetch(URL, tmp_path / "taken")
    conversion = tmp_path / ".store.partial"
    conversion.mkdir()
    (conversion / "train.beton").write_text("precious")
    with pytest.raises(DataError, match="holds a conversion that was interrupted"):
        fetch(URL, tmp_path / "store")
    assert contents(conversion) == {"train.beton": b"precious"}


def test_another_store_takes_the_place_of_one_that_was_not_fetched_to_its_end(
    files: type[FaultyFileSystem], uploaded: dict[str, bytes], tmp_path: Path
) -> None:
    files.fault = Times("read", largest(uploaded), Killed(), after=2)
    with pytest.raises(Killed):
        fetch(URL, tmp_path / "store")
    write_store(tmp_path / "other", {"train": [StoredPicture("a", b"a" * 99, 8, 8)]})
    fetch(str(tmp_path / "other"), tmp_path / "store")
    assert contents(tmp_path / "store") == contents(tmp_path / "other")


def test_a_store_is_read_from_local_files_only() -> None:
    for path in ("s3://bucket/store", Path("s3://bucket/store")):
        with pytest.raises(StoreError, match="`fastbot store fetch URL DIR`"):
            Store(path)


def test_an_unknown_protocol_names_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nonsense"):
        fetch("nonsense://bucket/store", tmp_path / "store")


def test_an_upload_streams_and_is_read_back(files: type[FaultyFileSystem], tmp_path: Path) -> None:
    data = bytes(range(256)) * 100
    (tmp_path / "file").write_bytes(data)
    remote.upload(tmp_path / "file", f"{URL}/file", FileRecord(name="file", size=len(data), sha256=_sha256(data)))
    assert files.store["/bucket/store/file"].getvalue() == data
    assert files.operations.count(("read", "file")) > 5


def test_a_wrong_record_is_not_confirmed(files: type[FaultyFileSystem], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"changed since")
    with pytest.raises(OSError, match="reads back as 13 bytes"):
        remote.upload(tmp_path / "file", f"{URL}/file", FileRecord(name="file", size=13, sha256=_sha256(b"before")))


def test_the_manifest_is_read_in_whole(uploaded: dict[str, bytes]) -> None:
    assert b"".join(remote.blocks(f"{URL}/manifest.json", 0, 1 << 20)) == uploaded["manifest.json"]
    assert b"".join(remote.blocks(f"{URL}/manifest.json", 10, 30)) == uploaded["manifest.json"][10:30]
    assert isinstance(Manifest.parse(URL, uploaded["manifest.json"]), Manifest)


def test_the_command_fetches(uploaded: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["store", "fetch", URL, str(tmp_path / "store")])
    assert end.value.code == 0
    assert contents(tmp_path / "store") == uploaded
    assert f"1 class -> {tmp_path}/store" in capsys.readouterr().out


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
