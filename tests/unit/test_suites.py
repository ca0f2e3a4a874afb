from __future__ import annotations

import pytest

from fastbot.errors import RecipeError
from fastbot.recipe_files import load_recipe
from fastbot.specs import TeacherSpec
from fastbot.suite_files import load_suite, parse_suite, suite_names

# The labels as the papers print them, in their order.
TABLE_6 = (
    "Efficient",
    "+ cosine decay",
    "+ label smoothing",
    "+ distill w/o mixup",
    "+ mixup w/o distill",
    "+ distill w/ mixup",
)
TABLE_4 = ("linear scaling", "+ LR warmup", "+ zero gamma", "+ no bias decay", "+ FP16")


def test_the_suites_are_known() -> None:
    assert suite_names() == ["rsb", "table4", "table5", "table6", "table6-inceptionv3", "table6-mobilenet"]


@pytest.mark.parametrize(
    ("name", "labels", "top1"),
    [
        (
            "table4",
            tuple(f"BS {batch}: {label}" for batch in (256, 1024) for label in TABLE_4),
            (75.87, 76.03, 76.19, 76.16, 76.15, 75.17, 75.93, 76.37, 76.03, 76.21),
        ),
        ("table5", ("ResNet-50", "ResNet-50-B", "ResNet-50-C", "ResNet-50-D"), (76.21, 76.66, 76.87, 77.16)),
        ("table6", TABLE_6, (77.16, 77.91, 78.31, 78.67, 79.15, 79.29)),
        ("table6-inceptionv3", TABLE_6, (77.50, 78.19, 78.40, 78.26, 78.77, 78.34)),
        ("table6-mobilenet", TABLE_6, (71.90, 72.83, 72.93, 71.97, 73.28, 72.51)),
        ("rsb", ("A3", "A2", "A1"), (78.052, 79.828, 80.382)),
    ],
)
def test_a_suite_is_the_papers_table(name: str, labels: tuple[str, ...], top1: tuple[float, ...]) -> None:
    suite = load_suite(name)
    assert suite.name == name
    assert tuple(row.label for row in suite.rows) == labels
    reported = [paper.top1 for row in suite.rows if (paper := load_recipe(row.recipe).paper) is not None]
    assert reported == pytest.approx([value / 100 for value in top1])
    assert suite.baseline == 0


@pytest.mark.parametrize("name", suite_names())
def test_a_rows_teacher_is_the_one_its_recipe_learns_from(name: str) -> None:
    suite = load_suite(name)
    for row in suite.rows:
        distillation = load_recipe(row.recipe).distillation
        expected = distillation.teacher if isinstance(distillation, TeacherSpec) else None
        assert (None if row.teacher is None else f"runs/{row.teacher}") == expected
    assert {row.teacher for row in suite.rows} - {None} == {teacher.recipe for teacher in suite.teachers}


GOOD = """
name = "mine"
about = "two rows"
[[rows]]
label = "first"
recipe = "bot-baseline"
[[rows]]
label = "second"
recipe = "bot-efficient"
"""


def test_a_suite_of_ones_own() -> None:
    suite = parse_suite(GOOD, "mine")
    assert [row.recipe for row in suite.rows] == ["bot-baseline", "bot-efficient"]
    assert (suite.baseline, suite.teachers) == (0, ())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[[rows]]", "[[rows", "suite mine is not TOML"),
        ('about = "two rows"', "", "suite mine: about: Field required"),
        ('about = "two rows"', 'about = "two rows"\nbase = 1', "suite mine: base: Extra inputs"),
        ('about = "two rows"', 'about = "two rows"\nbaseline = 2', "baseline is 2, and there are 2 rows"),
        ("bot-efficient", "bot-eficient", "row 'second': there is no recipe bot-eficient"),
        ("bot-efficient", "bot-baseline", "recipe 'bot-baseline' stands in two rows"),
        ('"second"', '"first"', "label 'first' stands in two rows"),
        (
            'recipe = "bot-efficient"',
            'recipe = "bot-efficient"\nteacher = "bot-baseline"',
            "row 'second': bot-baseline is not one of the suite's teachers",
        ),
    ],
)
def test_what_is_wrong_with_a_suite_is_named(old: str, new: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_suite(GOOD.replace(old, new), "mine")


def test_an_unknown_suite_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"there is no suite tabel4\. Did you mean table4\? Suites: rsb, table4"):
        load_suite("tabel4")
