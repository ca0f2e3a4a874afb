from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("nvidia.dali")

from pipelines.backends.dali_graph import DEFAULT_FORM, FORMS, Form
from pipelines.backends.dali_tuning import Measurement, Situation, fastest_form, jpeg_class

BEST = Form("whole", 0.9)


class Measured:
    """Pretends that `BEST` is the fastest, and counts what it is asked for."""

    def __init__(self, fails: Callable[[Form], bool] = lambda form: False) -> None:
        self.forms: list[Form] = []
        self._fails = fails

    def __call__(self, form: Form) -> Measurement:
        self.forms.append(form)
        if self._fails(form):
            raise RuntimeError("not on this GPU\nand more")
        return Measurement(7000.0 if form == BEST else 5000.0 + form.hardware_load, 0.43)


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pipelines")


@pytest.fixture
def cache_file(tmp_path: Path) -> Path:
    return tmp_path / "not there yet" / "form.json"


def test_every_form_is_measured_once_and_the_fastest_kept(cache_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = Measured(), Measured()
    assert fastest_form(first, cache_file) == BEST
    assert first.forms == list(FORMS)
    (line,) = caplog.messages
    assert "whole pictures with a hardware load of 0.9: 7000 images/s here, the slowest form 5000" in line
    assert "engine was busy to 43%" in line
    assert fastest_form(second, cache_file) == BEST
    assert second.forms == []
    assert len(caplog.messages) == 2
    assert [file.name for file in cache_file.parent.iterdir()] == [cache_file.name]


def test_what_is_kept_says_how_all_forms_did(cache_file: Path) -> None:
    fastest_form(Measured(), cache_file)
    measured = json.loads(cache_file.read_text())["measured"]
    assert {(entry["decoder"], entry["hardware_load"]) for entry in measured} == {
        (form.decoder, form.hardware_load) for form in FORMS
    }
    assert max(measured, key=lambda entry: entry["images_per_s"])["decoder"] == BEST.decoder


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"form": 3}',
        '{"form": {"decoder": "window"}}',
        '{"form": {"decoder": "x", "hardware_load": 9}}',
    ],
)
def test_a_file_that_holds_no_form_is_measured_over(cache_file: Path, content: str) -> None:
    cache_file.parent.mkdir()
    cache_file.write_text(content)
    measured = Measured()
    assert fastest_form(measured, cache_file) == BEST
    assert measured.forms == list(FORMS)
    assert fastest_form(Measured(), cache_file) == BEST


def test_a_cache_that_cannot_be_written_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    assert fastest_form(Measured(), tmp_path / "file" / "form.json") == BEST
    assert "cannot be written" in caplog.text


def test_a_form_that_fails_is_left_out(cache_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert fastest_form(Measured(lambda form: form == BEST), cache_file).hardware_load == 1
    assert "cannot decode whole pictures with a hardware load of 0.9 here: not on this GPU" in caplog.text


def test_where_nothing_can_be_measured_dalis_default_is_taken_and_not_kept(cache_file: Path) -> None:
    assert fastest_form(Measured(lambda form: True), cache_file) == DEFAULT_FORM
    assert not cache_file.exists()


def test_every_situation_has_a_file_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    situations = [
        Situation(gpu, driver, dali, jpeg_kib, num_threads)
        for gpu in ("NVIDIA H100 80GB HBM3", "NVIDIA A100/40")
        for driver in ("550.54.15", "unknown")
        for dali in ("2.4.0", "2.5.0")
        for jpeg_kib in (64, 128)
        for num_threads in (4, 16)
    ]
    files = {situation.cache_file() for situation in situations}
    assert len(files) == len(situations)
    assert {file.parent for file in files} == {tmp_path / "fastbot" / "dali"}


@pytest.mark.parametrize(("mean_bytes", "kib"), [(0, 1), (60_000, 64), (75_000, 64), (110_000, 128), (1e6, 1024)])
def test_pictures_of_about_one_size_are_one_class(mean_bytes: float, kib: int) -> None:
    assert jpeg_class(mean_bytes) == kib


def test_the_engines_use_is_that_of_the_gpu_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for NVIDIA's library: it needs a driver."""

    class NoAnswer(Exception):
        pass

    def use_of(handle: str) -> tuple[int, int]:
        if handle != "handle of GPU-abc":
            raise NoAnswer
        return 43, 100_000

    library = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda name: f"handle of {name}",
        nvmlDeviceGetJpgUtilization=use_of,
        NVMLError=NoAnswer,
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.delitem(sys.modules, "pipelines.backends.jpeg_engine", raising=False)
    from pipelines.backends import jpeg_engine

    assert jpeg_engine.utilization("abc") == 0.43
    assert jpeg_engine.utilization("another") is None
    monkeypatch.delitem(sys.modules, "pipelines.backends.jpeg_engine")
