from __future__ import annotations

import io
from pathlib import Path

import pytest
from ablations import STORE, ablation, result, trained
from PIL import Image
from rich.console import Console

from fastbot.ablation.picture import draw
from fastbot.ablation.report import GREY_NOTE, markdown, notes, table
from fastbot.ablation.trainings import Changes

TABLE = {"Efficient": (0.80, 0.82), "+ cosine decay": (0.83, 0.83), "+ label smoothing": (0.81, 0.86)}


def cells(text: str, label: str) -> list[str]:
    """Return the cells of a row of a Markdown table."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {label} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_of_the_table() -> None:
    text = markdown(trained(TABLE))
    assert cells(text, "Efficient") == ["Efficient", "120", "81.00 ± 1.41", "", "", "77.16", "", ""]
    # Differences 3 and 1: mean 2, deviation sqrt(2), and t(0.975, 1) / sqrt(2) of it.
    expected = ["+ cosine decay", "120", "83.00 ± 0.00", *["+2.00 ± 12.71"] * 2, "77.91", "+0.75", "+0.75"]
    assert cells(text, "+ cosine decay") == expected
    # 81 - 83 and 86 - 83; 81 - 80 and 86 - 82.
    assert cells(text, "+ label smoothing")[3:5] == ["+0.50 ± 31.77", "+2.50 ± 19.06"]
    assert cells(text, "+ label smoothing")[5:] == ["78.31", "+0.40", "+1.15"]


def test_one_seed_has_no_intervals() -> None:
    text = markdown(trained({"Efficient": (0.80,), "+ cosine decay": (0.83,), "+ label smoothing": ()}))
    assert cells(text, "+ cosine decay")[2:5] == ["83.00", "+3.00", "+3.00"]
    assert cells(text, "+ label smoothing")[2:5] == ["not finished", "", ""]


def test_what_is_not_verified_is_marked() -> None:
    rows = trained({"Efficient": (0.80, 0.82)}).rows
    paper = rows[0].paper
    assert paper is not None
    doubtful = rows[0].model_copy(update={"paper": paper.model_copy(update={"standing": "unverified"})})
    text = markdown(ablation().model_copy(update={"rows": (doubtful,)}))
    assert cells(text, "Efficient")[5] == "77.16 unverified"


@pytest.mark.parametrize("suite", ["table4", "table6"])
def test_a_terminal_of_100_columns_breaks_nothing(suite: str) -> None:
    full = ablation(suite)
    full = full.with_results({row.recipe: {0: result(0.8), 1: result(0.9), 2: result(0.85)} for row in full.rows})
    console = Console(file=io.StringIO(), width=100)
    console.print(table(full))
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "…" not in printed
    assert len(printed.splitlines()) == 2 + len(full.rows)
    assert all(row.label in printed for row in full.rows)


def test_the_notes_say_what_is_compared() -> None:
    said = " ".join(notes(trained(TABLE)))
    assert "over 2 seeds" in said
    assert "the baseline is 'Efficient'" in said
    assert GREY_NOTE not in said


def test_grey_stores_and_unequal_conditions_are_named() -> None:
    grey = STORE.model_copy(update={"grey": True})
    found = trained(TABLE, store=grey)
    recipe = found.rows[0].recipe
    found = found.with_results({recipe: {0: result(0.8, conditions={"num_threads": 4}, bad_pictures=3)}})
    said = " ".join(notes(found))
    assert GREY_NOTE in said
    assert "num_threads was 2 and 4" in said
    assert "3 pictures could not be used" in said


def test_teachers_are_named_with_what_they_are() -> None:
    changes = Changes(overrides=("model.name=resnet18d",), teacher_overrides=("model.name=resnet34d",))
    found = ablation(rows=["+ distill w/o mixup"], changes=changes)
    found = found.with_results({"bot-resnet152d-teacher": {0: result(0.9), 1: result(0.92)}})
    said = markdown(found)
    assert "Teachers: ResNet-152-D (resnet34d, 120 epochs) 91.00 ± 1.41." in said
    assert "Changes to the recipes: `model.name=resnet18d --teacher model.name=resnet34d`." in said


@pytest.mark.parametrize("scores", [TABLE, {"Efficient": (), "+ cosine decay": (0.5,)}])
def test_the_picture_can_be_opened(scores: dict[str, tuple[float, ...]], tmp_path: Path) -> None:
    draw(trained(scores), tmp_path / "ablation.png")
    with Image.open(tmp_path / "ablation.png") as picture:
        assert picture.width > picture.height > 200
        assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 50
