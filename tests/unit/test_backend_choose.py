from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from stores import StoredPicture, write_split

from datasets_tools import jpeg
from datasets_tools.store import Split
from pipelines.backends import choose
from pipelines.errors import BackendUnavailable, SpecError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NO_SPLIT: Split = None  # nothing is read

INSTALL_DALI = "pip install nvidia-dali-cuda120"
INSTALL_FFCV = "apt-get install libturbojpeg0-dev libjpeg-dev libopencv-dev pkg-config g++ && pip install ffcv"


@pytest.fixture
def split(tmp_path: Path) -> Split:
    return write_split(tmp_path, [StoredPicture("raw", bytes(3), 1, 1, raw=True)])


def hide(monkeypatch: pytest.MonkeyPatch, package: str, backend: str) -> None:
    """Make `package` look as if it were not installed, and forget the backend's modules, which have it already."""
    for name in list(sys.modules):
        if name.startswith((f"{package}.", f"pipelines.backends.{backend}")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)


def without_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pipelines.backends.turbo", raising=False)
    monkeypatch.setattr(jpeg, "problem", lambda: "the JPEG codec is not built: run pip install -e .")


def test_auto_takes_turbo_on_a_cpu() -> None:
    choice = choose.choose("auto", CPU)
    assert choice.name == "turbo"
    assert "\n" not in choice.reason
    assert "cpu" in choice.reason


def test_auto_takes_torch_where_the_codec_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    without_codec(monkeypatch)
    choice = choose.choose("auto", CPU)
    assert choice.name == "torch"
    assert "pip install -e ." in choice.reason
    with pytest.raises(BackendUnavailable, match=r"backend turbo cannot run here: the JPEG codec is not built"):
        choose.build("turbo", NO_SPLIT, device=CPU, num_threads=1)


def test_auto_takes_dali_on_a_gpu() -> None:
    pytest.importorskip("nvidia.dali")
    assert choose.choose("auto", CUDA).name == "dali"


def test_auto_takes_turbo_on_a_gpu_without_dali_and_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "nvidia.dali", "dali")
    choice = choose.choose("auto", CUDA)
    assert choice.name == "turbo"
    assert INSTALL_DALI in choice.reason


@pytest.mark.parametrize(
    ("backend", "package", "line"), [("dali", "nvidia.dali", INSTALL_DALI), ("ffcv", "ffcv", INSTALL_FFCV)]
)
def test_a_missing_package_is_an_error_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, backend: str, package: str, line: str
) -> None:
    hide(monkeypatch, package, backend)
    with pytest.raises(BackendUnavailable) as caught:
        choose.build(backend, NO_SPLIT, device=CPU, num_threads=1)
    assert f"backend {backend} cannot run here" in str(caught.value)
    assert line in str(caught.value)
    status = choose.available()[backend]
    assert not status.usable
    assert line in status.remedy
    assert package in status.reason


def test_an_unknown_name_is_refused_with_those_allowed() -> None:
    with pytest.raises(SpecError, match=r"'daly'.*auto, turbo, dali, ffcv, torch, synthetic"):
        choose.choose("daly", CPU)


def test_what_is_available_is_told_in_one_line_each() -> None:
    statuses = choose.available()
    assert tuple(statuses) == choose.NAMES
    assert statuses["torch"].usable
    assert statuses["synthetic"].usable
    for name, status in statuses.items():
        assert status.name == name
        assert status.reason
        assert "\n" not in status.reason
        assert status.usable == (status.remedy == "")
    assert statuses["torch"].version is not None


def test_auto_builds_what_it_chooses(split: Split) -> None:
    assert choose.build("auto", split, device=CPU, num_threads=1).name == "turbo"
