"""Against servers of our own, on this machine."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Event, Thread
from urllib.error import URLError

import huggingface_hub.constants
import pytest

from fastbot import downloads
from fastbot.downloads import check_reachable, of_hub


class Refusing(BaseHTTPRequestHandler):
    """Answers that there is nothing: it is there."""

    def do_HEAD(self) -> None:
        self.send_error(404)

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/model"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_a_server_that_answers_anything_is_there(server: str) -> None:
    check_reachable(server)


def test_a_server_that_refuses_connections_is_not() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port} cannot be reached within 5 s: .*refused"):
            check_reachable(f"http://127.0.0.1:{port}/model")


def test_a_server_that_does_not_answer_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_PATIENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(OSError, match="cannot be reached"):
        check_reachable(f"http://127.0.0.1:{silent.getsockname()[1]}/model")


def test_an_address_that_is_none_is_told_of() -> None:
    with pytest.raises(OSError, match="hub.mirror/model cannot be reached within 5 s: unknown url type"):
        check_reachable("hub.mirror/model")


def test_a_name_whose_lookup_hangs_is_waited_for_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    over = Event()
    monkeypatch.setattr(downloads, "_PATIENCE_S", 0.05)

    def look_up(*arguments: object, **options: object) -> None:
        over.wait(30)
        raise URLError("nobody waits for this")

    monkeypatch.setattr(downloads, "urlopen", look_up)
    with pytest.raises(OSError, match="cannot be reached within 0 s: no answer"):
        check_reachable("https://weights.invalid/model")
    over.set()


def test_a_certificate_that_only_the_library_knows_is_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise URLError(ssl.SSLCertVerificationError("unknown issuer"))

    monkeypatch.setattr(downloads, "urlopen", refuse)
    check_reachable("https://weights.invalid/model")


def test_who_is_offline_by_choice_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(url: str) -> None:
        raise AssertionError(url)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(downloads, "check_reachable", asked)
    of_hub("nobody/has-this@v1").prepare("weights")


def test_an_endpoint_that_is_no_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "hub.mirror")
    with pytest.raises(OSError, match=r"HF_ENDPOINT makes it hub\.mirror/nobody/has-this, .* begin it with https://"):
        of_hub("nobody/has-this").prepare("weights")
