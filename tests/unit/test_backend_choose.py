from __future__ import annotations

import sys

import pytest
import torch

from datasets_tools.store import Split
from pipelines.backends import choose
from pipelines.backends.torch import TorchBackend
from pipelines.errors import BackendUnavailable, SpecError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NO_SPLIT: Split = None  # nothing is read

INSTALL_DALI = "pip install nvidia-dali-cuda120"
INSTALL_FFCV = "apt-get install libturbojpeg0-dev libjpeg-dev libopencv-dev pkg-config g++ && pip install ffcv"


def hide(monkeypatch: pytest.MonkeyPatch, package: str, backend: str) -> None:
    """Make `package` look as if it were not installed, and forget the backend's modules, which have it already."""
    for name in list(sys.modules):
        if name.startswith((f"{package}.", f"pipelines.backends.{backend}")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)


def test_auto_takes_torch_on_a_cpu() -> None:
    choice = choose.choose("auto", CPU)
    assert choice.name == "torch"
    assert "\n" not in choice.reason
    assert "cpu" in choice.reason


def test_auto_takes_dali_on_a_gpu() -> None:
    pytest.importorskip("nvidia.dali")
    assert choose.choose("auto", CUDA).name == "dali"


def test_auto_takes_torch_on_a_gpu_without_dali_and_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "nvidia.dali", "dali")
    choice = choose.choose("auto", CUDA)
    assert choice.name == "torch"
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
    with pytest.raises(SpecError, match=r"'daly'.*auto, dali, ffcv, torch, synthetic"):
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


def test_auto_builds_what_it_chooses() -> None:
    assert isinstance(choose.build("auto", NO_SPLIT, device=CPU, num_threads=1), TorchBackend)
