"""`fastbot recipes`, in this process."""

from __future__ import annotations

import tomllib

import pytest
from rich.cells import cell_len

from fastbot.cli import main
from fastbot.cli.recipes import reported
from fastbot.recipe_files import recipe_names
from fastbot.specs import Paper


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["recipes", *arguments])
    assert ended.value.code == code
    captured = capsys.readouterr()
    return captured.out + captured.err


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")


def test_every_recipe_is_one_line_of_100_columns(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys).splitlines()
    assert max(map(cell_len, lines)) <= 100
    first = [line.split()[0] for line in lines if line]
    assert all(first.count(name) == 1 for name in recipe_names())
    row = next(line for line in lines if line.startswith("bot-resnet50d-mixup "))
    assert row.split()[-5:] == ["200", "1024", "79.15", "/", "94.58"]
    assert "Bag of Tricks, table 4: ResNet-50" in lines


def test_a_pattern_lists_what_it_fits(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "rsb-*")
    assert [line.split()[0] for line in text.splitlines() if line.startswith("rsb-")] == ["rsb-a1", "rsb-a2", "rsb-a3"]
    assert "bot-" not in text
    assert "no recipe is named like x*" in printed(capsys, "x*", code=2)


@pytest.mark.parametrize(
    ("pattern", "names"), [("rsb-a?", ["rsb-a1", "rsb-a2", "rsb-a3"]), ("rsb-a[13]", ["rsb-a1", "rsb-a3"])]
)
def test_every_kind_of_shell_pattern_lists(pattern: str, names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, pattern).splitlines()
    assert [line.split()[0] for line in lines if line.startswith("rsb-")] == names


def test_a_pattern_that_fits_nothing_names_near_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(capsys, "rbs-a?", code=2)
    assert "no recipe is named like rbs-a?. Did you mean rsb-a" in said
    assert "Did you mean" not in printed(capsys, "???????????zzzz", code=2)


def test_the_papers_figures_are_not_those_of_a_changed_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "bot-efficient", "model.name=resnet18d", "data.crop_size=64", "seed=3")
    assert text.splitlines()[-1] == (
        "# [paper] is of bot-efficient as published; 2 keys differ here: data.crop_size, model.name"
    )
    assert tomllib.loads(text)["paper"]["top1"] > 0
    for kept in ([], ["run.log_every=5", "seed=3"]):
        assert "as published" not in printed(capsys, "bot-efficient", *kept)


def test_a_recipe_without_a_paper_says_nothing_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert "as published" not in printed(capsys, "demo", "epochs=3")


def test_a_narrow_terminal_still_shows_names_and_figures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "75")
    text = printed(capsys, "bot-table4-*")
    assert "bot-table4-1024-linear-scaling" in text
    assert "75.17 / 92.54" in text


def test_one_recipe_is_printed_resolved(capsys: pytest.CaptureFixture[str]) -> None:
    values = tomllib.loads(printed(capsys, "rsb-a2", "data.global_batch_size=512", "data.mix.group=128"))
    assert values["optimizer"]["learning_rate"] == pytest.approx(2.5e-3)
    assert values["data"]["mix"]["group"] == 128


@pytest.mark.parametrize(
    ("paper", "text"),
    [
        (None, ""),
        (Paper(row="x"), ""),
        (Paper(row="x", top1=0.7587, top5=0.927), "75.87 / 92.70"),
        (Paper(row="x", top1=0.815), "81.50"),
        (Paper(row="x", top1=0.804, top5=0.946, standing="second_hand"), "80.40 / 94.60 second-hand"),
        (Paper(row="x", top1=0.815, standing="unverified"), "81.50 unverified"),
    ],
)
def test_figures_that_nobody_verified_say_so(paper: Paper | None, text: str) -> None:
    assert reported(paper) == text
