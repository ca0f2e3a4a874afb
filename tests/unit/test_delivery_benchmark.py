from __future__ import annotations

from pathlib import Path

import pytest
from answering import ask_here
from sources import encoded, pixels
from stores import StoredPicture, write_store

from benchmarks.rungs import delivery, fresh_process
from benchmarks.rungs.delivery_answers import Setting


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    pictures = [StoredPicture(f"{seed}.jpg", encoded(pixels(24, 32, seed)), 24, 32) for seed in range(96)]
    write_store(tmp_path / "store", {"train": pictures})
    return Setting(str(tmp_path / "store"), "turbo", "cpu", batch_size=32, size=16, threads=1)


def test_waits_at_the_borders_of_epochs_stand_beside_others(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_process, "ask", ask_here)
    results = delivery.run(setting, epochs=2)
    names = [result.case for result in results]
    assert names == [
        "wait at an epoch's start, fastbot",
        "wait elsewhere, fastbot",
        "wait at an epoch's start, torchvision DataLoader",
        "wait elsewhere, torchvision DataLoader",
    ]
    assert {result.peer for result in results} == {name for name in names if "elsewhere" in name}
    assert all(result.value > 0 and result.unit == "ms" for result in results)
