from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from datasets_tools.errors import ConversionError
from datasets_tools.space import check_space


def test_space_is_that_of_the_folder_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def disk_usage(folder: Path) -> shutil._ntuple_diskusage:
        asked.append(folder)
        return shutil._ntuple_diskusage(10, 3, 7)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    check_space(tmp_path / "not" / "yet", 7)
    with pytest.raises(ConversionError, match="yet: not enough space"):
        check_space(tmp_path / "not" / "yet", 8)
    assert asked == [tmp_path, tmp_path]
