from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from numba.core import event

from pipelines import compilation

SOURCE = """
from numba import njit

@njit(cache={cache})
def twice(x):
    return 2 * x
"""


@pytest.fixture(autouse=True)
def _listening(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pipelines")


def _kernel(folder: Path, module: str, *, cache: bool) -> Callable[[int], int]:
    """Write a module with a kernel, and import it as a new process would."""
    file = folder / "kernels.py"
    if not file.exists():
        file.write_text(SOURCE.format(cache=cache))
    spec = importlib.util.spec_from_file_location(module, file)
    assert spec is not None
    assert spec.loader is not None
    kernels = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kernels)
    twice: Callable[[int], int] = kernels.twice
    return twice


def _announced(kernel: Callable[[int], int]) -> None:
    """Call a kernel in what is a new process to the announcement."""
    with event.install_listener("numba:compile", compilation._Announcement()):
        assert kernel(3) == 6


def test_one_line_says_where_compiled_kernels_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kernel = _kernel(tmp_path, "pipelines.kernels", cache=True)
    with event.install_listener("numba:compile", compilation._Announcement()):
        assert kernel(3) == 6
        assert kernel(1.5) == 3.0  # type: ignore[arg-type]
    (line,) = caplog.messages
    assert line.startswith("compiling for this machine, once after an installation")
    assert str(tmp_path) in line


def test_nothing_is_said_where_the_cache_has_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _announced(_kernel(tmp_path, "pipelines.kernels", cache=True))
    caplog.clear()
    _announced(_kernel(tmp_path, "pipelines.kernels", cache=True))
    assert not caplog.messages


@pytest.mark.parametrize(("module", "cache"), [("pipelines.kernels", False), ("elsewhere.kernels", True)])
def test_other_functions_are_not_this_package_s(
    module: str, cache: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _announced(_kernel(tmp_path, module, cache=cache))
    assert not caplog.messages


def test_it_is_listened_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[str] = []
    monkeypatch.setattr(event, "register", lambda kind, _: registered.append(kind))
    compilation.announce_compilation.cache_clear()
    compilation.announce_compilation()
    compilation.announce_compilation()
    compilation.announce_compilation.cache_clear()
    assert registered == ["numba:compile"]
