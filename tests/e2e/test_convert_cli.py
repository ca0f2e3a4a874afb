"""`fastbot convert` and `fastbot store` as a user runs them, in their own processes where workers or kills matter."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sources import encoded, jpeg, pixels

from datasets_tools.store import Store
from fastbot.cli import main

RUN = [sys.executable, "-c", "from fastbot.cli import main; main()"]


def fastbot(*arguments: object, file_limit: int | None = None) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        if file_limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

    command = [*RUN, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, preexec_fn=limit)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    for split, count in (("train", 4), ("val", 2)):
        for label, name in enumerate(("cat", "dog")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for k in range(count):
                (folder / f"{k}.jpg").write_bytes(jpeg(60 + k, 80, seed=10 * label + k))
    return root


def test_a_folder_becomes_a_store_and_is_shown(pictures: Path, tmp_path: Path) -> None:
    (pictures / "train/cat/png.jpg").write_bytes(encoded(pixels(50, 70), "PNG"))
    (pictures / "train/dog/cmyk.jpg").write_bytes(encoded(pixels(50, 70).convert("CMYK")))
    (pictures / "train/dog/notes.txt").write_text("not a picture")
    done = fastbot("convert", "folder", pictures, tmp_path / "store", "--workers", 2)
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        "train: 10 pictures, 8 kept as they were, 1 encoded anew from jpeg cmyk, 1 encoded anew from png" in done.stdout
    )
    assert "1 file that is no picture is left out" in done.stdout
    split = Store(tmp_path / "store").split("train")
    assert split.encoded(0).tobytes() == (pictures / "train/cat/0.jpg").read_bytes()

    shown = fastbot("store", "show", tmp_path / "store", "--out", tmp_path / "sheet.png")
    assert shown.returncode == 0
    assert "2 classes: cat, dog" in shown.stdout
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[2] == 3
    assert sheet.std() > 10


def test_imagenet_folders_become_a_store(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for wnid in ("n01440764", "n01443537"):
            (tmp_path / "in" / split / wnid).mkdir(parents=True)
            (tmp_path / "in" / split / wnid / "1.JPEG").write_bytes(jpeg(300, 400))
    arguments = "convert", "imagenet", tmp_path / "in", tmp_path / "store", "--max-side", 200, "--workers", 1
    refused = fastbot(*arguments)
    assert refused.returncode == 1
    assert "--partial" in refused.stderr
    done = fastbot(*arguments, "--partial")
    assert done.returncode == 0
    assert "note: " in done.stdout
    assert Store(tmp_path / "store").class_names[0] == "n01440764 tench"
    assert Store(tmp_path / "store").split("val").widths.tolist() == [200, 200]


def test_the_demo_becomes_a_store(tmp_path: Path) -> None:
    done = fastbot("convert", "demo", tmp_path / "store", "--train-per-class", 2, "--val-per-class", 1, "--workers", 1)
    assert done.returncode == 0, done.stderr
    store = Store(tmp_path / "store")
    assert len(store.split("train")) == 2 * store.num_classes
    assert store.manifest.source.options["seed"] == 0


def test_bad_pictures_fail_the_run_with_all_their_names_or_are_left_out(pictures: Path, tmp_path: Path) -> None:
    (pictures / "train/cat/text.jpg").write_bytes(b"not a picture")
    (pictures / "train/dog/cut.jpg").write_bytes(jpeg()[:-300])
    (pictures / "val/dog/empty.jpg").write_bytes(b"")
    failed = fastbot("convert", "folder", pictures, tmp_path / "store", "--workers", 2)
    assert failed.returncode == 1
    for line in ("train/cat/text.jpg: is no picture", "train/dog/cut.jpg: ends early", "val/dog/empty.jpg: is empty"):
        assert line in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "store").exists()

    skip = ("--on-bad-image", "skip", "--resume")
    skipped = fastbot("convert", "folder", pictures, tmp_path / "store", *skip, "--workers", 2)
    assert skipped.returncode == 0
    assert "left out dog/empty.jpg: is empty" in skipped.stdout
    assert len(Store(tmp_path / "store").split("val")) == 4
    assert {path.name for path in tmp_path.iterdir()} == {"pictures", "store"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("folder", "absent", "store"), 1, "absent: no such folder"),
        (("folder", "pictures/train", "store"), 1, "has neither a train nor a val folder"),
        (("folder", "pictures", "pictures/store"), 2, "inside the source"),
        (("folder", "pictures", "taken"), 1, "exists and is not empty"),
        (("folder", "pictures", "store", "--quality", "200"), 2, "--quality"),
        (("folder", "pictures", "store", "--on-bad-image", "ignore"), 2, "--on-bad-image"),
        (("folder", "pictures"), 2, "DST"),
    ],
)
def test_wrong_use_is_one_line_and_its_exit_code(
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken" / "something").mkdir(parents=True)
    with pytest.raises(SystemExit) as stopped:
        main(["convert", *arguments])
    assert stopped.value.code == code
    assert message in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"pictures", "taken"}


def test_wrong_use_is_told_unwrapped_and_without_a_parsers_words(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = pictures / "train" / "a folder whose name is long enough to leave eighty columns far behind" / "store"
    with pytest.raises(SystemExit) as stopped:
        main(["convert", "folder", str(pictures), str(inside)])
    told = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert told[-2] == (
        f"error: Invalid value: {inside} lies inside the source {pictures}, where it would be taken for pictures: "
        "choose a folder outside"
    )
    assert told[-1] == "Try 'fastbot convert folder --help' for help."
    with pytest.raises(SystemExit):
        main(["convert", "demo", str(pictures.parent / "store"), "--train-per-class", "0"])
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("Usage: fastbot convert demo ")
    assert told[-2].startswith("error: Invalid value for '--train-per-class': ")
    assert "Input" not in told[-2]


def test_without_a_command_there_is_help_and_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([])
    told = capsys.readouterr()
    assert stopped.value.code == 2
    assert "convert" in told.out + told.err
    assert "error" not in told.err


def test_no_space_left_is_one_line_and_leaves_nothing(pictures: Path, tmp_path: Path) -> None:
    """The kernel refuses to let a file grow, as it does on a full disk."""
    done = fastbot("convert", "folder", pictures, tmp_path / "store", "--workers", 2, file_limit=1_000_000)
    assert done.returncode == 1
    assert "store: no space left while writing" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_a_killed_conversion_leaves_no_store_and_is_not_taken_up_unasked(tmp_path: Path) -> None:
    command = [*RUN, "convert", "demo", str(tmp_path / "store"), "--workers", "1", "--shards", "20"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while not list(tmp_path.glob(".store.partial/*.finished.json")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "store").exists()
    again = fastbot("convert", "demo", tmp_path / "store", "--workers", 1, "--shards", 20)
    assert again.returncode == 1
    assert "holds a conversion that was interrupted" in again.stderr
    other = fastbot("convert", "demo", tmp_path / "store", "--workers", 1, "--shards", 20, "--seed", 1, "--resume")
    assert "--seed: 0 then, 1 now" in other.stderr
    resumed = fastbot("convert", "demo", tmp_path / "store", "--workers", 2, "--shards", 20, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


# From inside: on a busy machine a signal from outside may come when all is done.
STOPPING = """
import os, sys
from datasets_tools.conversion.shards import ShardWriter
from fastbot.__main__ import main

if __name__ == "__main__":
    stop, finish = int(sys.argv.pop(1)), ShardWriter.finish

    def finish_and_stop(writer):
        result = finish(writer)
        ShardWriter.finish = finish
        os.kill(os.getpid(), stop)
        return result

    ShardWriter.finish = finish_and_stop
    main()
"""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_conversion_says_what_is_kept(tmp_path: Path, stop: signal.Signals) -> None:
    script = tmp_path / "stopping.py"
    script.write_text(STOPPING)
    command = ["convert", "demo", str(tmp_path / "store"), "--workers", "2", "--shards", "20"]
    process = subprocess.run(
        [sys.executable, script, str(int(stop)), *command],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    printed, complaints = process.stdout, process.stderr
    assert (process.returncode, complaints) == (130, "")
    assert "stopped: " in printed
    assert " of 2,424 pictures are done; go on with --resume" in printed
    resumed = fastbot("convert", "demo", tmp_path / "store", "--workers", 2, "--shards", 20, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    again = fastbot("convert", "demo", tmp_path / "store", "--workers", 2, "--shards", 20, "--resume")
    assert (again.returncode, "is whole already" in again.stdout) == (0, True)


def test_an_unknown_layout_is_answered_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["convert", "torchvison:CIFAR10", "a", "b"])
    assert stopped.value.code == 2
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "imagenet, folder, parquet, webdataset, torchvision, list, demo" in shown


def test_show_names_what_is_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"format_version": 99}))
    with pytest.raises(SystemExit) as stopped:
        main(["store", "show", str(tmp_path)])
    assert stopped.value.code == 1
    assert "store of another version" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ("convert", "folder"),
        ("convert", "imagenet"),
        ("convert", "parquet"),
        ("convert", "webdataset"),
        ("convert", "list"),
        ("convert", "demo"),
        ("store", "show"),
    ],
)
def test_help_has_an_example(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Example: fastbot " + " ".join(command) in shown
