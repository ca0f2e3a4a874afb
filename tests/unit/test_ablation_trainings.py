from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest

from fastbot.ablation.trainings import Changes, Training, needed_teachers, plan_trainings, select_rows
from fastbot.errors import RecipeError
from fastbot.recipe_files import load_recipe
from fastbot.specs import TeacherSpec
from fastbot.suite_files import load_suite

OUT = Path("out")
DISTILLED = ("+ distill w/o mixup",)


def plan(
    rows: Sequence[str] = (), seeds: int = 1, suite: str = "table6", changes: Changes | None = None
) -> list[Training]:
    chosen = load_suite(suite)
    return plan_trainings(chosen, select_rows(chosen, rows), seeds, changes or Changes(), OUT)


def test_every_row_with_every_seed_after_its_teacher() -> None:
    trainings = plan(["Efficient", *DISTILLED], seeds=2)
    assert [str(training) for training in trainings] == [
        f"{label}, seed {seed}" for seed in (0, 1) for label in ("ResNet-152-D", "Efficient", *DISTILLED)
    ]
    assert trainings[0].folder == OUT / "bot-resnet152d-teacher" / "seed-0"
    for seed, training in enumerate(trainings[2::3]):
        folder = (OUT / "bot-resnet152d-teacher" / f"seed-{seed}").resolve()
        assert training.teacher == folder
        assert isinstance(training.recipe.distillation, TeacherSpec)
        assert training.recipe.distillation.teacher == str(folder)
    assert [training.recipe.seed for training in trainings] == [0, 0, 0, 1, 1, 1]


def test_the_arguments_of_a_training_make_its_recipe() -> None:
    changes = Changes(overrides=("model.name=resnet18d",), teacher_overrides=("epochs=3",), scale_epochs=0.1)
    for training in plan(seeds=2, changes=changes):
        name, *overrides = training.arguments
        assert load_recipe(name, overrides).resolved() == training.recipe


@pytest.mark.parametrize("suite", ["table4", "table5", "table6", "table6-inceptionv3", "table6-mobilenet", "rsb"])
def test_without_changes_it_is_the_papers_experiment(suite: str) -> None:
    for training in plan(suite=suite):
        mine, packaged = training.recipe.as_dict(), load_recipe(training.row.recipe).resolved().as_dict()
        if training.teacher is not None:
            mine["distillation"].pop("teacher")
            packaged["distillation"].pop("teacher")
        assert mine == packaged


def test_one_teacher_teaches_all_seeds() -> None:
    trainings = plan(DISTILLED, seeds=3, changes=Changes(one_teacher=True))
    assert [training.row.label for training in trainings] == ["ResNet-152-D", *DISTILLED * 3]
    assert {training.teacher for training in trainings[1:]} == {trainings[0].folder.resolve()}


def test_only_teachers_that_rows_need_are_trained() -> None:
    suite = load_suite("table6")
    assert needed_teachers(suite, select_rows(suite, ["Efficient"])) == []
    assert [row.label for row in needed_teachers(suite, select_rows(suite, DISTILLED))] == ["ResNet-152-D"]


def test_teachers_have_overrides_of_their_own_after_the_others() -> None:
    changes = Changes(overrides=("model.name=resnet18d",), teacher_overrides=("model.name=resnet34d",))
    names = {training.row.label: training.recipe.model.name for training in plan(DISTILLED, changes=changes)}
    assert names == {"ResNet-152-D": "resnet34d", "+ distill w/o mixup": "resnet18d"}


def test_an_override_changes_the_rows_that_have_what_it_is_about() -> None:
    changes = Changes(overrides=("data.mix.group=16", "distillation.hard_weight=0.5"))
    for training in plan(changes=changes):
        mix, distillation = training.recipe.data.mix, training.recipe.distillation
        assert mix.kind == "none" or mix.group == 16
        assert distillation.kind == "none" or distillation.hard_weight == 0.5


def test_the_kind_that_an_override_sets_decides_what_there_is() -> None:
    changes = Changes(overrides=("schedule.kind=linear", "schedule.warmup=1"), scale_epochs=0.5)
    for training in plan(changes=changes):
        assert (training.recipe.schedule.kind, training.recipe.schedule.warmup.value) == ("linear", 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (Changes(overrides=("seed=3",)), "an ablation sets seed itself: --seeds says"),
        (Changes(overrides=("distillation.teacher=timm:resnet50",)), "sets distillation.teacher itself"),
        (Changes(overrides=("model.nam=x",)), "model.nam is not a recipe key"),
        (Changes(overrides=("epochs=never",)), "epochs"),
        (Changes(overrides=("no equals sign",)), "no equals sign"),
        (Changes(overrides=("optimizer.eps=1",)), "optimizer.eps has no meaning where optimizer.kind is nag"),
        (Changes(teacher_overrides=("distillation.temperature=1",)), "distillation.temperature has no meaning"),
    ],
)
def test_overrides_that_fit_no_row_are_refused(changes: Changes, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        plan(changes=changes)


def told(changes: Changes, suite: str = "table6") -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plan(suite=suite, changes=changes)
    return [str(warning.message) for warning in caught]


def test_a_key_without_effect_in_some_rows_is_as_it_should_be() -> None:
    assert not told(Changes(overrides=("loss.smoothing=all",)))
    assert not told(Changes(overrides=("optimizer.base_learning_rate=0.2",), scale_epochs=0.5))


def test_a_key_without_effect_in_every_row_is_told_of_once() -> None:
    (line,) = told(Changes(overrides=("loss.smoothing=all",)), "table5")
    assert line.startswith(
        "loss.smoothing has no effect in any training that it is given for: loss.label_smoothing is 0.0"
    )
    both = Changes(overrides=("optimizer.learning_rate=0.1", "optimizer.scaling=sqrt"))
    assert [line.split()[0] for line in told(both)] == ["optimizer.scaling"]
    teachers = Changes(teacher_overrides=("loss.smoothing=all", "loss.label_smoothing=0"))
    assert [line.split()[0] for line in told(teachers)] == ["loss.smoothing"]


def test_an_override_given_twice_counts_once_and_the_last_of_a_key_holds() -> None:
    changes = Changes(overrides=("epochs=3", "epochs=3"), teacher_overrides=("epochs=1", "compile=false", "epochs = 2"))
    assert changes.overrides == ("epochs=3",)
    assert changes.teacher_overrides == ("compile=false", "epochs = 2")


def test_a_teacher_of_another_model_is_not_called_by_the_packaged_ones() -> None:
    changes = Changes(teacher_overrides=("model.name=resnet18d",))
    assert [str(training) for training in plan(DISTILLED, changes=changes)] == [
        "ResNet-152-D (resnet18d), seed 0",
        "+ distill w/o mixup, seed 0",
    ]


def test_a_suite_without_teachers_has_no_overrides_of_theirs() -> None:
    with pytest.raises(RecipeError, match="--teacher epochs=3: suite table4 has no teachers"):
        plan(suite="table4", changes=Changes(teacher_overrides=("epochs=3",)))


def test_rows_by_label_or_recipe_in_the_suites_order() -> None:
    suite = load_suite("table6")
    chosen = select_rows(suite, ["bot-resnet50d-mixup", "Efficient"])
    assert [row.label for row in chosen] == ["Efficient", "+ mixup w/o distill"]
    assert select_rows(suite, []) == list(suite.rows)


def test_an_unknown_row_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"table6 has no row '\+ cosine'\. Did you mean \+ cosine decay\? Rows: "):
        select_rows(load_suite("table6"), ["+ cosine"])
