from __future__ import annotations

import io
from pathlib import Path

import pytest
from ablations import STORE, ablation, result, trained
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from fastbot.ablation.comparison import compare
from fastbot.ablation.picture import difference_limits, draw, draw_differences, draw_scores
from fastbot.ablation.records import Ablation
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


ONE_SEED = {"Efficient": (0.80,), "+ cosine decay": (0.83,)}


def test_with_one_seed_nothing_speaks_of_deviations_and_intervals() -> None:
    found = trained(ONE_SEED)
    shown = [markdown(found), printed(found, 80), printed(found, 200)]
    assert not [text for text in shown if "±" in text or "std" in text]
    assert "over 1 seed: without a second there is neither a deviation nor an interval" in shown[0]
    assert "95 %" not in shown[0]
    axes = Figure().subplots()
    draw_differences(axes, compare(found))
    assert "interval" not in " ".join(axes.get_legend_handles_labels()[1])


@pytest.mark.parametrize("width", [80, 200])
def test_every_column_of_the_papers_says_so(width: int) -> None:
    shown = printed(trained(TABLE), width)
    assert shown[: shown.index("Efficient")].count("paper:") == 3
    assert markdown(trained(TABLE)).count("paper: ") == 3


@pytest.mark.parametrize("suite", ["table4", "table5", "table6", "rsb"])
def test_what_is_not_finished_and_epochs_in_steps_stand_in_one_line(suite: str) -> None:
    full = wide_apart(suite)
    last = full.rows[-1].model_copy(update={"seeds": {}, "epochs": "40 steps"})
    shown = printed(full.model_copy(update={"rows": (*full.rows[:-1], last)}), 80)
    assert max(map(len, shown.splitlines())) <= 80
    (line,) = (line for line in shown.splitlines() if line.startswith(last.label + " "))
    assert "40 steps" in line
    assert "not finished" in line


def test_what_is_not_verified_is_marked() -> None:
    rows = trained({"Efficient": (0.80, 0.82)}).rows
    paper = rows[0].paper
    assert paper is not None
    doubtful = rows[0].model_copy(update={"paper": paper.model_copy(update={"standing": "unverified"})})
    text = markdown(ablation().model_copy(update={"rows": (doubtful,)}))
    assert cells(text, "Efficient")[5] == "77.16 unverified"


def printed(found: Ablation, width: int) -> str:
    """Return the table as a terminal of so many columns shows it."""
    console = Console(file=io.StringIO(), width=width)
    console.print(table(found, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def wide_apart(suite: str) -> Ablation:
    """An ablation whose deviations and intervals take as much room as any."""
    found = ablation(suite)
    return found.with_results({row.recipe: {0: result(0.1), 1: result(0.9), 2: result(0.0)} for row in found.rows})


@pytest.mark.parametrize("suite", ["table4", "table6"])
def test_a_terminal_of_100_columns_breaks_nothing(suite: str) -> None:
    full = ablation(suite)
    full = full.with_results({row.recipe: {0: result(0.8), 1: result(0.9), 2: result(0.85)} for row in full.rows})
    shown = printed(full, 100)
    assert "…" not in shown
    assert len(shown.splitlines()) == 2 + len(full.rows)
    assert all(row.label in shown for row in full.rows)


@pytest.mark.parametrize("suite", ["table4", "table5", "table6", "rsb"])
def test_a_terminal_of_80_columns_breaks_no_figure_and_no_label(suite: str) -> None:
    full = wide_apart(suite)
    shown = printed(full, 80)
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    # Labels have plus signs of their own, and spaces.
    for row in full.rows:
        assert shown.count(row.label) == 1 + sum(row.label in other.label for other in full.rows if other != row)
    figures = shown.split()
    for row in full.rows:
        for cell in cells(markdown(full), row.label)[1:]:
            assert all(figure in figures for figure in cell.split())


def test_however_narrow_the_terminal_no_digit_is_lost() -> None:
    full = wide_apart("table6")
    digits = sorted(character for character in printed(full, 100) if character.isdigit())
    assert sorted(character for character in printed(full, 50) if character.isdigit()) == digits


def test_the_notes_say_what_is_compared() -> None:
    said = " ".join(notes(trained(TABLE)))
    assert "over 2 seeds" in said
    assert "the baseline is 'Efficient'" in said
    assert GREY_NOTE not in said


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({"Efficient": (), "+ cosine decay": ()}, "Nothing of it is finished yet"),
        ({"Efficient": (0.8, 0.9), "+ cosine decay": ()}, "over 2 seeds:"),
        ({"Efficient": (0.8, 0.9), "+ cosine decay": (0.8,)}, "over 1 to 2 seeds:"),
        ({"Efficient": (0.8,), "+ cosine decay": (0.8,)}, "over 1 seed:"),
    ],
)
def test_the_notes_say_what_is_not_finished(scores: dict[str, tuple[float, ...]], said: str) -> None:
    text = " ".join(notes(trained(scores)))
    assert said in text
    assert "0 seeds" not in text


def test_the_papers_figures_are_of_its_recipes_and_not_of_changed_ones() -> None:
    published = "of the recipes as published, on its own data"
    assert published in " ".join(notes(trained(TABLE)))
    assert "made to them" not in " ".join(notes(trained(TABLE)))
    changes = Changes(overrides=("model.name=resnet18d",), scale_epochs=0.1)
    said = " ".join(notes(trained(TABLE, changes=changes)))
    assert f"{published}; here 2 changes are made to them." in said


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


def test_the_picture_says_which_rows_are_not_finished() -> None:
    left, right = Figure().subplots(1, 2)
    draw_scores(left, compare(trained({"Efficient": (0.8, 0.9), "+ cosine decay": (), "+ label smoothing": (0.7,)})))
    assert [(text.get_text(), text.get_position()[1]) for text in left.texts] == [("not finished", 1)]
    draw_scores(right, compare(trained(TABLE)))
    assert not right.texts


def test_an_interval_of_two_seeds_does_not_squeeze_the_points() -> None:
    # Differences 3 and 1, and -1 and 6: 2 +- 12.7 and 2.5 +- 44; the paper's are 0.75 and 1.15.
    scores = {"Efficient": (0.80, 0.82), "+ cosine decay": (0.83, 0.83), "+ label smoothing": (0.79, 0.88)}
    assert difference_limits(compare(trained(scores))) == pytest.approx((-1.25, 3.75))


def test_intervals_that_leave_the_points_room_are_shown_whole() -> None:
    # Differences 1.0, 1.1 and 0.9: 1 +- 0.2484 (t = 4.3027, deviation 0.1); the paper's is 0.75.
    scores = {"Efficient": (0.80, 0.80, 0.80), "+ cosine decay": (0.81, 0.811, 0.809)}
    assert difference_limits(compare(trained(scores))) == pytest.approx((0.0, 1.2484), abs=1e-4)


def test_without_differences_the_axis_is_matplotlibs() -> None:
    assert difference_limits(compare(trained({"Efficient": (0.8, 0.9)}))) is None


def test_what_runs_off_the_axis_ends_in_an_arrow(tmp_path: Path) -> None:
    scores = {"Efficient": (0.80, 0.82), "+ cosine decay": (0.83, 0.83)}
    axes = Figure().subplots()
    draw_differences(axes, compare(trained(scores)))
    markers = {line.get_marker(): list(line.get_xdata()) for line in axes.lines if line.get_marker() in ("<", ">")}
    low, high = axes.get_xlim()
    assert low < markers["<"][0] < 0.75 < 2 < markers[">"][0] < high
    assert "interval" in " ".join(axes.get_legend_handles_labels()[1])
