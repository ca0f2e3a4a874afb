from __future__ import annotations

import functools
import http.server
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from torchvision.datasets.folder import make_dataset

from datasets_tools import files
from datasets_tools.errors import SourceError


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets_tools.protocols._PAUSES_S", (0.0, 0.0, 0.0))


# Sorted by whole paths, `-` and ` ` come before the `/` of what is in a folder, letters after it.
TREE = ("b/1.jpg", "b/2.jpg", "b/c/1.jpg", "b-a/1.jpg", "b/c d/1.jpg", "b a/x/1.jpg", "0.jpg", "ba/1.jpg", "b.x/1.jpg")


@pytest.fixture(params=["local", "remote"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty folder, as a path and as a URL."""
    if request.param == "local":
        yield str(tmp_path)
    else:
        yield "memory://tests/files"
        fsspec.filesystem("memory").rm("/tests", recursive=True)


def plant(root: str, *names: str) -> None:
    for name in names:
        with fsspec.open(files.join(root, name), "wb", auto_mkdir=True) as file:
            file.write(name.encode())


def test_walk_is_in_the_order_of_torchvisions_image_folder(tmp_path: Path) -> None:
    plant(str(tmp_path / "class"), *TREE)
    theirs = make_dataset(tmp_path, class_to_idx={"class": 0}, extensions=(".jpg",))
    assert [f"{tmp_path}/class/{name}" for name in files.walk(str(tmp_path / "class"))] == [path for path, _ in theirs]


def test_walk_is_the_same_local_and_remote(root: str) -> None:
    plant(root, *TREE)
    in_order = sorted(TREE, key=lambda name: (name.rpartition("/")[0], name))
    assert list(files.walk(root)) == in_order


def test_hidden_names_are_left_out_unless_asked_for(root: str) -> None:
    plant(root, "b.jpg", ".a.jpg", ".c/1.jpg", "d/.1.jpg", "d/2.jpg")
    assert files.children(root) == [files.Child("b.jpg", False), files.Child("d", True)]
    assert [child.name for child in files.children(root, hidden=True)] == [".a.jpg", ".c", "b.jpg", "d"]
    assert list(files.walk(root)) == ["b.jpg", "d/2.jpg"]
    # Not what is in hidden folders: of a version control or a trash bin, that is no business of ours.
    assert list(files.walk(root, hidden=True)) == [".a.jpg", "b.jpg", "d/.1.jpg", "d/2.jpg"]


def test_content_sizes_and_kinds(root: str) -> None:
    plant(root, "a/name.bin")
    path = files.join(root, "a", "name.bin")
    assert files.read(path) == b"a/name.bin"
    assert files.size(path) == 10
    assert files.read_range(path, 2, 4) == b"name"
    with files.open_binary(path) as file:
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"bin"
    assert (files.is_file(path), files.is_folder(path)) == (True, False)
    folder = files.join(root, "a")
    assert (files.is_file(folder), files.is_folder(folder)) == (False, True)
    absent = files.join(root, "b")
    assert (files.is_file(absent), files.is_folder(absent)) == (False, False)


def test_a_range_beyond_the_end_is_an_error(root: str) -> None:
    plant(root, "a.bin")
    with pytest.raises(OSError, match=r"a\.bin: ends early: 2 of 9 bytes at 3"):
        files.read_range(files.join(root, "a.bin"), 3, 9)


@pytest.mark.parametrize("operation", [files.read, files.size, files.open_binary])
def test_what_is_absent_is_named(root: str, operation: object) -> None:
    plant(root, "a.bin")
    with pytest.raises(FileNotFoundError, match="absent"):
        operation(files.join(root, "absent"))  # type: ignore[operator]
    with pytest.raises(SourceError, match=r"absent: cannot be listed: [Nn]o such file or (folder|directory)"):
        files.children(files.join(root, "absent"))


def test_listings_do_not_go_stale_or_pile_up(root: str) -> None:
    plant(root, "a.bin")
    assert len(files.children(root)) == 1
    plant(root, "b.bin")
    assert len(files.children(root)) == 2


def said(url: str) -> str:
    with pytest.raises(SourceError) as caught:
        files.children(url)
    return str(caught.value)


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(OSError, match="^nosuch://bucket/a: there is no protocol nosuch://$"):
        files.read("nosuch://bucket/a")
    expected = "nosuch://bucket: cannot be listed: there is no protocol nosuch://."
    assert said("nosuch://bucket") == expected
    assert "there is no protocol nosuch://" in said("simplecache::nosuch://bucket")


@pytest.mark.parametrize(
    ("protocol", "hint"),
    [
        ("s3", "pip install s3fs"),
        ("gs", "pip install gcsfs"),
        ("gcs", "pip install gcsfs"),
        ("az", "pip install adlfs"),
        ("abfs", "pip install adlfs"),
        ("hf", "pip install huggingface_hub"),
        ("oss", "install the fsspec package of that protocol"),
    ],
)
def test_a_protocol_without_its_package_says_which_to_install(
    protocol: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ImportError("Install somefs to use it.")

    # What it does where the package is absent; here some may be installed.
    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    message = said(f"{protocol}://bucket/a")
    assert message.startswith(f"{protocol}://bucket/a: cannot be listed: {protocol}:// needs one more package: {hint}")
    assert message.count(f"{protocol}://bucket/a") == 1
    assert ".." not in message


def test_a_refused_connection_is_not_an_absent_file() -> None:
    with socket.socket() as bound:  # bound but not listening: nobody else can get the port
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/a"
        for operation in (files.read, files.size, files.open_binary, files.is_file, files.is_folder):
            with pytest.raises(OSError, match=f"^{url}: .*Cannot connect") as caught:
                operation(url)
            assert not isinstance(caught.value, FileNotFoundError)
            assert "no such file" not in files.why(caught.value)
            assert url not in files.why(caught.value)


def test_a_web_server_without_a_file_has_none(tmp_path: Path) -> None:
    handler = functools.partial(_Silent, directory=str(tmp_path))
    plant(str(tmp_path), "a.bin")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert (files.is_file(f"{url}/a.bin"), files.is_file(f"{url}/absent")) == (True, False)
        with pytest.raises(FileNotFoundError, match="/absent: no such file or folder"):
            files.read(f"{url}/absent")
        server.shutdown()


class _WebServer(http.server.BaseHTTPRequestHandler):
    """Answers with each status in turn, at last with ten bytes."""

    answers: ClassVar[list[int]]

    def do_GET(self) -> None:
        status = self.answers.pop(0) if self.answers else 200
        self.send_response(status)
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(b"0123456789")

    def log_message(self, *_: object) -> None:
        """Keep the requests out of the tests' output."""


@pytest.fixture
def answering() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _WebServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/a.bin"
        server.shutdown()


def test_what_passes_is_waited_for_and_what_stays_is_not(answering: str) -> None:
    _WebServer.answers = [503, 500, 429]
    assert files.read(answering) == b"0123456789"
    assert not _WebServer.answers
    _WebServer.answers = [503] * 5
    with pytest.raises(OSError, match=r"a\.bin: .*503.*\(tried 4 times\)$") as caught:
        files.read(answering)
    assert answering not in files.why(caught.value).partition("url=")[0]
    for status in (403, 404):
        _WebServer.answers = [status, status]
        with pytest.raises(OSError, match=r"a\.bin"):
            files.read(answering)
        assert _WebServer.answers == [status]


class ClientPayloadError(Exception):
    """As aiohttp's, which is no OSError."""


def failing(monkeypatch: pytest.MonkeyPatch, method: str, count: int) -> None:
    """Let a method of fsspec's file in memory fail so many times."""
    failures = iter([True] * count)
    kind = fsspec.implementations.memory.MemoryFile
    really = getattr(kind, method)

    def call(self: object, *arguments: object) -> object:
        if next(failures, False):
            raise ClientPayloadError("not enough data")
        return really(self, *arguments)

    monkeypatch.setattr(kind, method, call)


def test_an_open_file_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    plant("memory://tests", "files/a.bin")
    with files.open_binary("memory://tests/files/a.bin") as file:
        file.seek(6)
        failing(monkeypatch, "read", 3)
        assert file.read() == b"a.bin"
    with files.open_binary("memory://tests/files/a.bin") as file:
        failing(monkeypatch, "read", 4)
        with pytest.raises(OSError, match=r"^memory://tests/files/a\.bin: ClientPayloadError: not enough .*4 times"):
            file.read()
        failing(monkeypatch, "seek", 4)
        with pytest.raises(OSError, match=r"^memory://tests/files/a\.bin: ClientPayloadError: not enough data"):
            file.seek(-1, os.SEEK_END)


def test_a_range_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    plant("memory://tests", "files/a.bin")
    answers = iter([ClientPayloadError("not enough data")])
    really = fsspec.implementations.memory.MemoryFileSystem.cat_file

    def cat_file(*arguments: object, **options: object) -> bytes:
        for error in answers:
            raise error
        return bytes(really(*arguments, **options))

    monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "cat_file", cat_file)
    assert files.read_range("memory://tests/files/a.bin", 6, 3) == b"a.b"


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Keep the requests out of the tests' output."""


def test_errors_of_a_protocol_become_os_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    class ClientError(Exception):
        """As botocore's, which is no OSError."""

    def refuse(*_: object, **__: object) -> bytes:
        raise ClientError("403 Forbidden")

    monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "cat_file", refuse)
    with pytest.raises(OSError, match="memory://a: ClientError: 403 Forbidden"):
        files.read("memory://a")


def test_a_link_to_a_folder_is_followed_and_one_to_itself_refused(tmp_path: Path) -> None:
    plant(str(tmp_path / "elsewhere"), "1.jpg")
    plant(str(tmp_path / "data"), "a/2.jpg")
    (tmp_path / "data" / "b").symlink_to(tmp_path / "elsewhere")
    assert list(files.walk(str(tmp_path / "data"))) == ["a/2.jpg", "b/1.jpg"]
    # By way of another folder: neither link alone leads back.
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "data")
    with pytest.raises(SourceError, match=r"b/back: is a link to .*data, which holds it\. Remove the link\."):
        list(files.walk(str(tmp_path / "data")))


@pytest.mark.parametrize(
    ("location", "joined", "parent"),
    [
        ("a/b", "a/b/c", "a"),
        ("a/b/", "a/b/c", "a/b"),
        ("/", "/c", "/"),
        ("/a", "/a/c", "/"),
        ("a", "a/c", "."),
        ("s3://bucket/a", "s3://bucket/a/c", "s3://bucket"),
        ("memory://a", "memory://a/c", "memory://"),
        ("memory://", "memory:///c", "memory://"),
        ("memory:///", "memory:///c", "memory://"),
    ],
)
def test_locations_are_joined_and_taken_apart(location: str, joined: str, parent: str) -> None:
    assert files.join(location, "c") == joined
    assert files.parent(location) == parent


def test_local_locations_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert files.absolute("a/b") == f"{tmp_path}/a/b"
    assert files.absolute("s3://bucket/a") == "s3://bucket/a"
