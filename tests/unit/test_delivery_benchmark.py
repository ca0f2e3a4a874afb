from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sources import encoded, pixels
from stores import StoredPicture, write_store

from benchmarks.rungs import delivery
from benchmarks.rungs.delivery_process import QUESTIONS, Setting
from fastbot.errors import RunError


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    pictures = [StoredPicture(f"{seed}.jpg", encoded(pixels(24, 32, seed)), 24, 32) for seed in range(96)]
    write_store(tmp_path / "store", {"train": pictures})
    return Setting(str(tmp_path / "store"), "turbo", "cpu", batch_size=32, size=16, threads=1)


def test_every_question_has_its_rows(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked in this process, where they take no start of another."""

    def ask(_: Path, question: str, setting: Setting, *arguments: Any) -> dict[str, Any]:
        return QUESTIONS[question](setting, *arguments)

    monkeypatch.setattr(delivery, "_ask", ask)
    results = delivery.run(setting, repeats=2, epochs=2, batches=(2, 5))
    names = [result.case for result in results]
    assert names == [
        "numba compiles, cache empty",
        "numba compiles, cache kept",
        "first batch, BoT, numba's cache kept",
        "first batch, RSB, numba's cache kept",
        "first batch, torchvision DataLoader",
        "wait at an epoch's start, fastbot",
        "wait elsewhere, fastbot",
        "wait at an epoch's start, torchvision DataLoader",
        "wait elsewhere, torchvision DataLoader",
        "memory, 2 batches",
        "memory, 5 batches",
    ]
    assert {result.peer for result in results} <= {*names}
    assert [result.unit for result in results] == ["s"] * 5 + ["ms"] * 4 + ["MB"] * 2
    assert results[1].value == 0, "in one process nothing is compiled twice"
    assert all(result.value > 0 for result in results[2:])


@pytest.mark.slow
def test_a_process_of_its_own_answers(setting: Setting, tmp_path: Path) -> None:
    answer = delivery._ask(tmp_path / "cache", "first_batch", setting, "BoT")
    assert answer["first_s"] > answer["compiling_s"] > 0
    assert delivery._ask(tmp_path / "cache", "first_batch", setting, "BoT")["compiling_s"] == 0


@pytest.mark.slow
def test_a_process_that_fails_is_an_error_with_its_words(setting: Setting, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="KeyError: 'nothing'"):
        delivery._ask(tmp_path, "nothing", setting)
