from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fastbot import runs
from fastbot.errors import RunError
from fastbot.recipe_files import load_recipe
from fastbot.runs import RunFolder, build_journal


def created(path: Path) -> RunFolder:
    run = RunFolder(path)
    run.create(load_recipe("demo"), [], resume=False)
    return run


def test_the_recipe_of_a_run_reads_back(tmp_path: Path) -> None:
    assert created(tmp_path / "run").recipe() == load_recipe("demo").resolved()


def test_an_existing_run_is_never_overwritten(tmp_path: Path) -> None:
    run = created(tmp_path / "run")
    with pytest.raises(RunError, match="holds a run that has saved no checkpoint. Remove the folder"):
        run.create(load_recipe("bot-baseline"), [], resume=False)
    (tmp_path / "run" / "checkpoints" / "last").mkdir(parents=True)
    with pytest.raises(RunError, match="already holds a run. Continue it with --resume, or choose another --out"):
        run.create(load_recipe("bot-baseline"), [], resume=False)
    assert run.recipe().name == "demo"


@pytest.mark.parametrize("resume", [True, False])
def test_a_run_that_has_ended_and_lost_its_checkpoints_is_not_begun_anew(resume: bool, tmp_path: Path) -> None:
    run = created(tmp_path / "run")
    run.check_free(resume=True)  # nothing was saved yet
    (run.path / "summary.json").write_text("{}")
    with pytest.raises(RunError, match=r"holds a run that has ended, and no checkpoint of it .* Bring them back, or"):
        run.check_free(resume=resume)
    run.checkpoints.path.mkdir()
    (run.checkpoints.path / "last").symlink_to("step-00000007")  # there was one: loading says what is wrong
    run.check_free(resume=True)


def test_a_training_keeps_others_out_of_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_LOCK_PATIENCE_S", 0.0)
    run, other = created(tmp_path / "run"), RunFolder(tmp_path / "run")
    with run.locked():
        with pytest.raises(RunError, match="another training is at work in .*run. Wait for it, end it"):
            other.check_idle()
        with pytest.raises(RunError, match="another training is at work"), other.locked():
            pass
        assert other.recipe().name == "demo"  # who reads is free to
    other.check_idle()


def test_resuming_may_be_asked_for_from_the_first_start(tmp_path: Path) -> None:
    """A job that is queued again after each interruption has one command line, also when nothing was saved yet."""
    for out in (tmp_path / "absent", tmp_path):
        RunFolder(out).check_free(resume=True)


@pytest.mark.parametrize(("file", "kind"), [("manifest.json", "a store"), ("ablation.json", "an ablation")])
@pytest.mark.parametrize("resume", [True, False])
def test_nothing_is_trained_into_other_things(file: str, kind: str, resume: bool, tmp_path: Path) -> None:
    (tmp_path / file).write_text("{}")
    with pytest.raises(RunError, match=f"is {kind}: nothing else is written into it. Choose another --out"):
        RunFolder(tmp_path).check_free(resume=resume)


def test_an_ablation_names_its_trainings(tmp_path: Path) -> None:
    (tmp_path / "ablation.json").write_text("{}")
    with pytest.raises(RunError, match="it is an ablation. Give one of its trainings, .*/RECIPE/seed-K$"):
        RunFolder(tmp_path).recipe()
    created(tmp_path / "bot-efficient" / "seed-0")
    with pytest.raises(RunError, match="RECIPE/seed-K, such as .*/bot-efficient/seed-0$"):
        RunFolder(tmp_path).recipe()


@pytest.mark.parametrize("content", ["{", "3", "\x80"])
def test_a_damaged_summary_is_named(content: str, tmp_path: Path) -> None:
    run = created(tmp_path / "run")
    (run.path / "summary.json").write_text(content, encoding="latin-1")
    with pytest.raises(RunError, match=r"run/summary\.json is damaged: .* Remove it"):
        run.summary()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"run folder .* cannot be made"):
        RunFolder(tmp_path / "file" / "run").create(load_recipe("demo"), [], resume=False)


def test_another_folder_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        RunFolder(tmp_path).recipe()


def test_overrides_are_kept_for_who_resumes(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert run.overrides(["epochs=3"]) == ["epochs=3"]
    run.create(load_recipe("demo", ["seed=1", "epochs=2"]), ["seed=1", "epochs=2"], resume=False)
    assert run.overrides([]) == ["seed=1", "epochs=2"]
    assert run.overrides(["seed=1", "epochs=2"]) == ["seed=1", "epochs=2"]
    assert run.overrides(["run.log_every=3", "seed=1"]) == ["epochs=2", "run.log_every=3", "seed=1"]
    assert load_recipe("demo", run.overrides(["epochs=5"])) == load_recipe("demo", ["seed=1", "epochs=5"])


def test_a_run_from_before_overrides_were_kept_has_none(tmp_path: Path) -> None:
    run = created(tmp_path / "run")
    (run.path / "overrides.json").unlink()
    assert run.overrides(["seed=1"]) == ["seed=1"]


@pytest.mark.parametrize("content", ["[", "{}", "[1]", '"epochs=3"'])
def test_damaged_overrides_are_named(content: str, tmp_path: Path) -> None:
    run = created(tmp_path / "run")
    (run.path / "overrides.json").write_text(content)
    with pytest.raises(RunError, match=r"overrides\.json .*give all overrides again, and remove it"):
        run.overrides([])


def test_another_recipe_is_refused_by_key_once_there_is_a_checkpoint(tmp_path: Path) -> None:
    run = created(tmp_path / "run")
    other = load_recipe("demo", ["seed=1", "loss.label_smoothing=0.2", "run.log_every=3"]).resolved()
    run.check_recipe(other)  # nothing would be lost
    (run.path / "checkpoints" / "last").mkdir(parents=True)
    run.check_recipe(load_recipe("demo", ["run.log_every=3"]).resolved())
    with pytest.raises(
        RunError, match=r"run is of another recipe: loss\.label_smoothing is 0\.2, was 0\.1; seed is 1, was 0\. "
    ):
        run.check_recipe(other)


def test_an_evaluation_that_is_made_up_for_is_recorded_once(tmp_path: Path) -> None:
    """The first try was recorded, and killed before it was saved."""
    run = created(tmp_path)
    with build_journal(run, 0, writes=True) as journal:
        for kind, step in (("eval", 1), ("train", 2), ("eval", 2)):
            journal.add(kind, step, {"loss": step})
    with build_journal(run, 2, writes=True, unevaluated=True):
        assert [(record["kind"], record["step"]) for record in run.records()] == [("eval", 1), ("train", 2)]


def test_the_journal_goes_to_both_files(tmp_path: Path) -> None:
    run = created(tmp_path)
    with build_journal(run, 0, writes=True) as journal:
        journal.add("train", 1, {"loss": 2.5})
        journal.add("eval", 2, {"top1": 0.5})
    assert run.records() == [{"kind": "train", "step": 1, "loss": 2.5}, {"kind": "eval", "step": 2, "top1": 0.5}]
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(1, 2.5)]


def test_resuming_drops_what_the_killed_run_wrote_after_its_checkpoint(tmp_path: Path) -> None:
    run = created(tmp_path)
    with build_journal(run, 0, writes=True) as journal:
        for step in (1, 2, 3):
            journal.add("train", step, {"loss": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "ste')  # killed while writing
    with build_journal(run, 2, writes=True) as journal:
        journal.add("train", 3, {"loss": 30})
    assert [record["loss"] for record in run.records()] == [1, 2, 30]


@pytest.mark.parametrize("damage", ['{"kind": "train", "st', "\0" * 40, "\x80\xff", "3", "", '{"loss": 1}'])
def test_a_line_that_a_power_cut_damaged_is_named_and_left_out(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = created(tmp_path)
    lines = ['{"kind": "train", "step": 1, "loss": 1}', damage, '{"kind": "train", "step": 2, "loss": 2}', ""]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines), encoding="latin-1")
    with build_journal(run, 2, writes=True) as journal:
        journal.add("train", 3, {"loss": 3})
    assert re.search(r"warning: .*metrics\.jsonl, line 2 is damaged and left out", caplog.text)
    caplog.clear()
    assert [record["step"] for record in run.records()] == [1, 2, 3]
    assert not caplog.text  # said once


@pytest.mark.parametrize("saved_step", [0, 1])
def test_curves_of_a_killed_continuation_are_purged(saved_step: int, tmp_path: Path) -> None:
    """What TensorBoard shows of a run that was killed at step 5 and went on from a checkpoint or the start, to 3."""
    run = created(tmp_path)
    for start_step, end_step, loss in ((0, 5, 10.0), (saved_step, 3, 20.0)):
        with build_journal(run, start_step, writes=True) as journal:
            for step in range(start_step + 1, end_step + 1):
                journal.add("train", step, {"loss": loss})
        (file,) = tmp_path.glob("events.out.tfevents.*.*")
        file.rename(tmp_path / f"events.out.tfevents.{6 - end_step}")  # TensorBoard reads them in the names' order
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    shown = {event.step: event.value for event in events.Scalars("train/loss")}
    assert shown == {step: 10.0 if step <= saved_step else 20.0 for step in (1, 2, 3)}


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    run = created(tmp_path)
    with build_journal(run, 0, writes=False) as journal:
        journal.add("train", 1, {"loss": 1})
    assert run.records() == []


def test_the_end_leaves_a_summary_and_a_picture_with_curves_in_it(tmp_path: Path) -> None:
    run = created(tmp_path)
    with build_journal(run, 0, writes=True) as journal:
        for step in range(1, 20):
            values = {"loss": 3 / step, "top1": step / 20, "learning_rate": 0.1, "images_per_s": 100.0}
            journal.add("train", step, values | {"data_wait_fraction": 0.1})
        journal.add("eval", 19, {"loss": 1.0, "top1": 0.9, "top5": 1.0})
    run.finish({"recipe": "demo", "top1": 0.9})
    assert run.summary() == {"recipe": "demo", "top1": 0.9}
    picture = Image.open(tmp_path / "curves.png").convert("RGB")
    assert len(picture.getcolors(maxcolors=1 << 24) or []) > 50
