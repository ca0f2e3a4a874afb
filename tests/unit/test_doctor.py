from __future__ import annotations

import pytest

from datasets_tools import jpeg
from fastbot.cli import doctor, main


def test_the_doctor_names_every_backend_and_what_auto_takes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["doctor", "--device", "cpu"])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    for word in ("dali", "ffcv", "torch", "synthetic", "auto would take", "JPEG codec: built"):
        assert word in printed


def test_the_doctor_says_how_to_build_the_codec(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jpeg, "_codec", jpeg._Absent(ImportError("libjpeg.so.62: cannot open shared object file")))
    with pytest.raises(SystemExit) as left:
        main(["doctor", "--device", "cpu"])
    assert left.value.code == 0
    assert "libjpeg.so.62: cannot open shared object file" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("installed", "driver", "problem"),
    [
        (["nvidia-dali-cuda120"], 12040, None),
        (["nvidia-dali-cuda120"], 0, None),
        (["nvidia-dali-cuda120"], 13000, "swap the wheel"),
        (["nvidia-dali-cuda130"], 13000, None),
        (["nvidia-dali-cuda120"], 11080, "driver supports CUDA 11.8 and nvidia-dali-cuda120 needs 12.0"),
        (["nvidia-dali-cuda130"], 12040, "driver supports CUDA 12.4 and nvidia-dali-cuda130 needs 13.0"),
        (["nvidia-dali-cuda120", "nvidia-dali-cuda130"], 13000, "both"),
        ([], 12040, None),
    ],
)
def test_what_is_wrong_with_dali(
    installed: list[str], driver: int, problem: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "version_of", lambda name: "2.4.0" if name in installed else None)
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: object())
    problems = doctor._dali_problems(driver)
    assert problems == [] if problem is None else problem in problems[0]


def test_a_dali_whose_folder_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version_of", lambda name: "2.4.0" if name == "nvidia-dali-cuda120" else None)
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: None)
    assert "--force-reinstall nvidia-dali-cuda120" in doctor._dali_problems(0)[0]
