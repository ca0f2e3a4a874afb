from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ablations import STORE, ablation, result, trained

from fastbot.ablation.records import Ablation, asked_for
from fastbot.ablation.results import FILE_NAME, Ledger, read_ablation, read_run, resume, write_ablation
from fastbot.ablation.trainings import Changes, Training, plan_trainings, select_rows
from fastbot.errors import RunError
from fastbot.recipe_files import load_recipe, write_recipe
from fastbot.suite_files import load_suite

ROOT = Path(__file__).parents[2]
ROWS = ("Efficient", "+ cosine decay")


def asked(before: Ablation, rows: tuple[str, ...] = ROWS, suite: str = "table6", **changes: Any) -> Ablation:
    """What is asked for by a later call."""
    chosen = load_suite(suite)
    return asked_for(chosen, Changes(**changes), STORE, select_rows(chosen, rows), before)


def one_training(out: Path) -> Training:
    suite = load_suite("table6")
    return plan_trainings(suite, select_rows(suite, ROWS[:1]), 1, Changes(), out)[0]


def finish(training: Training, store_digest: str = STORE.digest, **summary: Any) -> None:
    """Leave what a finished run leaves, as far as ablations read it."""
    checkpoint = training.folder / "checkpoints" / "last"
    checkpoint.mkdir(parents=True)
    (training.folder / "recipe.toml").write_text(write_recipe(training.recipe))
    lines = [
        {"kind": "train", "step": 4, "loss": 1.0},
        {"kind": "eval", "step": 4, "top1": 0.7, "top5": 0.9, "loss": 0.6},
        {"kind": "eval", "step": 6, "top1": 0.7, "top5": 0.8, "loss": 0.7},
        {"kind": "eval", "step": 8, "top1": 0.6, "top5": 0.95, "loss": 0.5},
    ]
    (training.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    identity = {"manifest_digest": store_digest, "conditions": {"num_threads": 2}}
    (checkpoint / "checkpoint.json").write_text(json.dumps({"format": 1, "identity": identity}))
    values = {"steps": 8, "images_per_s": 50.0, "wall_s": 3.0, "bad_pictures": 0} | summary
    (training.folder / "summary.json").write_text(json.dumps(values))


def test_a_file_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    written = trained({"Efficient": (0.5, 0.6), "+ cosine decay": (0.7,)})
    write_ablation(written, tmp_path)
    assert read_ablation(tmp_path) == written
    assert [file.name for file in tmp_path.iterdir()] == [FILE_NAME]


def test_the_last_evaluation_counts_and_the_best_is_kept(tmp_path: Path) -> None:
    training = one_training(tmp_path)
    assert read_run(training, STORE.digest, "here") is None
    finish(training)
    found = read_run(training, STORE.digest, "here")
    assert found is not None
    assert (found.final.top1, found.final.top5, found.final.loss) == (0.6, 0.95, 0.5)
    assert (found.best.top1, found.best.loss, found.best_step) == (0.7, 0.6, 4)
    assert (found.machine, found.conditions, found.images_per_s) == ("here", {"num_threads": 2}, 50.0)


def test_a_run_of_another_recipe_or_store_is_refused(tmp_path: Path) -> None:
    training = one_training(tmp_path)
    finish(training, store_digest="another")
    with pytest.raises(RunError, match=r"holds a training on another store than that of Efficient, seed 0\. Remove"):
        read_run(training, STORE.digest, "here")
    recipe = load_recipe(training.arguments[0], ["seed=0", "epochs=7"])
    (training.folder / "recipe.toml").write_text(write_recipe(recipe))
    with pytest.raises(RunError, match=r"another recipe than that of Efficient, seed 0: epochs is 120 .*, was 7"):
        read_run(training, STORE.digest, "here")


def test_a_folder_that_was_moved_holds_the_same_trainings(tmp_path: Path) -> None:
    """Their recipes name teachers where those were."""
    suite = load_suite("table6")
    row = select_rows(suite, ["+ distill w/o mixup"])
    made, asked_now = (plan_trainings(suite, row, 1, Changes(), tmp_path / name)[1] for name in ("old", "new"))
    finish(made)
    (tmp_path / "old").rename(tmp_path / "new")
    assert made.recipe.distillation != asked_now.recipe.distillation
    assert read_run(asked_now, STORE.digest, "here") is not None


def test_committed_results_are_of_the_recipes_that_there_are() -> None:
    """So the digest of a recipe without a teacher is still what it was when they were made."""
    made = Ablation.model_validate_json((ROOT / "docs/results/fashion-table6.json").read_bytes())
    suite = load_suite(made.suite)
    now = asked_for(suite, made.changes, made.store, suite.rows, made)
    digests = {row.recipe: row.digest for row in now.every if row.teacher is None}
    assert len(digests) == 6
    assert digests == {row.recipe: row.digest for row in made.every if row.teacher is None}


def test_a_run_whose_checkpoint_is_gone_is_named(tmp_path: Path) -> None:
    training = one_training(tmp_path)
    finish(training)
    (training.folder / "checkpoints" / "last" / "checkpoint.json").unlink()
    with pytest.raises(RunError, match=r"checkpoint\.json is damaged or gone: .* Remove .*seed-0, to train it again"):
        read_run(training, STORE.digest, "here")


def test_the_ledger_keeps_the_file_in_step(tmp_path: Path) -> None:
    training = one_training(tmp_path)
    ledger = Ledger(ablation(rows=ROWS), tmp_path, "here")
    assert ledger.keep(training) is None
    finish(training)
    kept = ledger.keep(training)
    assert kept is not None
    assert ledger.result(training) == read_ablation(tmp_path).result(training) == kept


def test_going_on_keeps_what_is_trained_and_adds_rows() -> None:
    before = trained({"Efficient": (0.5, 0.6), "+ cosine decay": (0.7,)})
    after = resume(before, asked(before, ("+ label smoothing",)), Path("out"))
    assert [(row.label, len(row.seeds)) for row in after.rows] == [
        ("Efficient", 2),
        ("+ cosine decay", 1),
        ("+ label smoothing", 0),
    ]


def test_overrides_that_make_the_same_recipes_are_the_same() -> None:
    before = trained(dict.fromkeys(ROWS, (0.5,)), changes=Changes(overrides=("epochs=12", "compile=false")))
    after = resume(before, asked(before, overrides=('epochs="12 epochs"',)), Path("out"))
    assert after.rows[0].seeds == {0: result(0.5)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overrides": ("epochs=3",)}, r"the recipe of '.*' was another \(overrides: none, now epochs=3\)"),
        ({"scale_epochs": 0.5}, r"was another \(--scale-epochs: 1, now 0\.5\)"),
        (
            {"teacher_overrides": ("epochs=3",)},
            r"the recipe of 'ResNet-152-D' was another \(--teacher: none, now epochs=3\)",
        ),
        ({"one_teacher": True}, "it was made without --one-teacher"),
        ({"suite": "table5", "rows": ()}, "its suite is table6, asked for is table5"),
    ],
)
def test_another_ablation_is_refused_and_what_differs_is_named(changes: dict[str, Any], message: str) -> None:
    before = trained({"Efficient": (0.5,), "+ distill w/o mixup": (0.6,)})
    with pytest.raises(RunError, match=rf"out holds another ablation: .*{message}.* Give what it was made with"):
        resume(before, asked(before, **changes), Path("out"))


def test_another_store_is_refused_and_a_moved_one_is_not() -> None:
    before = trained({"Efficient": (0.5,)})
    moved = STORE.model_copy(update={"path": "elsewhere"})
    assert resume(before.model_copy(update={"store": moved}), asked(before), Path("out")).store == STORE
    another = moved.model_copy(update={"digest": "e" * 64})
    with pytest.raises(RunError, match="its store elsewhere is another than stores/small"):
        resume(before.model_copy(update={"store": another}), asked(before), Path("out"))


def test_a_changed_packaged_recipe_is_noticed() -> None:
    before = trained({"Efficient": (0.5,)})
    old = before.rows[0].model_copy(update={"digest": "of an older fastbot"})
    with pytest.raises(RunError, match="with the same options: this fastbot has another recipe of that name"):
        resume(before.model_copy(update={"rows": (old,)}), asked(before), Path("out"))


@pytest.mark.parametrize("content", ["", "{", '{"format": 2}', "[]"])
def test_a_damaged_file_says_how_to_go_on(content: str, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(RunError, match=r"ablation\.json cannot be read: .* Remove it, and run the ablation again"):
        read_ablation(tmp_path)


def test_a_folder_without_an_ablation_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no ablation: it has no ablation\.json"):
        read_ablation(tmp_path)
