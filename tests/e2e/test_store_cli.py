"""`fastbot store` as a user runs it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sources import jpeg
from stores import StoredPicture, flip_bytes, write_split, write_store

from datasets_tools.store import Store
from fastbot.cli import main

CLASSES = ("n00000001 cat, house cat", "n00000002 dog [bold]", "n00000003 fox")


def stored(key: str, label: int, seed: int) -> StoredPicture:
    return StoredPicture(key, jpeg(40 + seed, 60, seed), 40 + seed, 60, label)


@pytest.fixture
def source(tmp_path: Path) -> Store:
    train = [stored(f"t{seed}.jpg", seed % 3, seed) for seed in range(12)]
    train.append(StoredPicture("raw.png", bytes(range(30)) * 30, 20, 15, 1, raw=True))
    val = [stored(f"v{seed}.jpg", seed % 3, seed) for seed in range(3)]
    return write_store(tmp_path / "source", {"train": train, "val": val}, CLASSES, num_shards=2)


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    """Run in this process, check the exit code, and return what was printed, errors last."""
    with pytest.raises(SystemExit) as stopped:
        main(["store", *map(str, arguments)])
    printed = capsys.readouterr()
    assert stopped.value.code == code, printed
    return printed.out + printed.err


def test_show_prints_a_summary_and_draws(source: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = run(capsys, "show", source.path)
    assert "3 classes: n00000001 cat, house cat, n00000002 dog [bold], n00000003 fox" in printed
    rows = {line.split("│")[1].strip(): line.split("│")[2:4] for line in printed.splitlines() if line.startswith("│")}
    assert [cell.strip() for cell in rows["pictures"]] == ["13", "3"]
    assert [cell.strip() for cell in rows["per class"]] == ["4 to 5", "1"]
    assert [cell.strip() for cell in rows["largest height x width"]] == ["51 x 60", "42 x 60"]
    assert rows["files"][0].strip().startswith("2 shards, ")
    for name in ("contact-sheet.png", "histograms.png"):
        assert np.asarray(Image.open(source.path / name).convert("L")).std() > 10

    run(capsys, "show", source.path, "--out", tmp_path / "demo.png", "--split", "val")
    assert {path.name for path in tmp_path.iterdir()} == {"source", "demo.png", "demo-histograms.png"}


def test_show_summarizes_a_store_with_a_picture_that_does_not_decode(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = StoredPicture("no\npicture", b"plain text", 9, 9)
    store = write_store(tmp_path / "store", {"train": [stored("a", 0, 1), text]})
    lines = run(capsys, "show", store.path).splitlines()
    assert lines[0].startswith("source: test")
    (note,) = [line for line in lines if line.startswith("note: ")]
    assert "sample 1 (no\\npicture): " in note
    assert lines[-2:] == [
        f"contact sheet: {store.path / 'contact-sheet.png'}",
        f"histograms: {store.path / 'histograms.png'}",
    ]


def test_what_a_manifest_says_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = write_store(tmp_path / "store", {"train": [stored("a", 0, 1)]}, ("\x1b[2Jcat",))
    content = json.loads((store.path / "manifest.json").read_text())
    content["fastbot_version"] = "1\x1b[31m"
    content["source"] = {"name": "demo\x1b]0;title\x07", "options": {"root\x1b[1m": "x\nval: whole\x9b2J"}}
    train = content["splits"]["train"]
    train["counts"] = {"reencoded": {"png\x1b[5m": 1}}
    train["quarantined"] = [{"key": "k\x1b[1m", "reason": "bad\x1b[31m\nval: whole"}]
    (store.path / "manifest.json").write_text(json.dumps(content))
    printed = run(capsys, "show", store.path)
    assert all(character.isprintable() or character == "\n" for character in printed)
    assert r"source: demo\x1b]0;title\x07 root\x1b[1m=x\nval: whole\x9b2J, written by fastbot 1\x1b[31m" in printed
    assert r"left out of train: k\x1b[1m: bad\x1b[31m\nval: whole" in printed
    assert r"1 class: \x1b[2Jcat" in printed
    assert r"1 png\x1b[5m" in printed


def test_show_writes_where_it_can_or_says_so(source: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot be written" in run(capsys, "show", source.path, "--out", tmp_path / "no" / "demo.png", code=2)


def test_a_whole_store_is_whole(source: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "verify", source.path, "--deep", "--workers", 1).splitlines()[-1] == "8 files, 16 samples: whole"


def test_damage_is_named_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = [stored(f"odd\n{seed}", 0, seed % 5) for seed in range(60)]
    store = write_store(tmp_path / "store", {"train": pictures, "val": pictures[:3]})
    for sample_id in range(55):
        flip_bytes(store.split("train"), sample_id)
    (store.path / "val.index").unlink()
    lines = run(capsys, "verify", store.path, code=1).splitlines()
    assert sum(line.startswith("train: sample ") for line in lines) == 5
    assert any(line.startswith("train: sample 3 (odd\\n3): ") for line in lines)
    assert "train: and 50 more damaged samples" in lines
    assert any(line.startswith("train.beton: ") for line in lines)
    assert any(line.startswith("val.index: ") for line in lines)
    assert lines[-1] == "4 files, 60 samples; wrong: 2 files, 55 samples"


def test_one_is_not_counted_as_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = write_store(tmp_path / "store", {"train": [stored("a", 0, 0)]})
    assert run(capsys, "verify", store.path).splitlines()[-1] == "2 files, 1 sample: whole"
    printed = run(capsys, "subset", store.path, tmp_path / "small", "--fraction", 1)
    assert "train: 1 picture, 1 per class" in printed
    assert "1 class -> " in printed
    flip_bytes(store.split("train"), 0)
    assert run(capsys, "verify", store.path, code=1).splitlines()[-1] == ("2 files, 1 sample; wrong: 1 file, 1 sample")


def test_a_file_of_a_store_is_not_a_missing_folder(source: Store, capsys: pytest.CaptureFixture[str]) -> None:
    file = source.split("val").path
    printed = run(capsys, "verify", file, code=1)
    assert printed == f"error: {file}: is a file, and a store is a folder. Name {source.path}.\n"


def test_the_origin_of_a_subset_is_told_line_by_line(
    source: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "subset", source.path, tmp_path / "half", "--fraction", 0.5)
    run(capsys, "subset", tmp_path / "half", tmp_path / "few", "--per-class", 1, "--seed", 3)
    lines = run(capsys, "show", tmp_path / "few").splitlines()
    assert lines[0].startswith("source: subset per_class=1 seed=3 splits=train,val thinned=train, written by fastbot ")
    half = Store(tmp_path / "half").manifest.source
    assert lines[1].startswith("cut from: subset fraction=0.5 seed=0 splits=train,val thinned=train, manifest ")
    assert lines[2] == f"cut from: test, manifest {str(half.options['manifest_sha256'])[:12]}"
    assert lines[3].startswith("policy: ")
    assert max(map(len, lines[:3])) < 120


def test_a_subset_is_cut(source: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = run(capsys, "subset", source.path, tmp_path / "small", "--classes", "fox,0", "--fraction", 0.5)
    assert "train: 4 pictures, 2 per class" in printed
    assert "2 classes -> " in printed
    small = Store(tmp_path / "small")
    assert small.class_names == (CLASSES[0], CLASSES[2])
    assert len(small.split("val")) == 2

    (tmp_path / "names.txt").write_text(f"{CLASSES[1]}\n\nn00000003\n")
    options = ("--classes-file", tmp_path / "names.txt", "--per-class", 1, "--thin", "train", "--thin", "val")
    run(capsys, "subset", source.path, tmp_path / "smaller", *options, "--seed", 3)
    assert Store(tmp_path / "smaller").class_names == CLASSES[1:]
    run(capsys, "subset", source.path, tmp_path / "few", "--num-classes", 2, "--split", "train")
    assert list(Store(tmp_path / "few").splits) == ["train"]
    run(capsys, "verify", tmp_path / "few")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ((), 2, "nothing says what to keep"),
        (("--classes", "0", "--num-classes", "2"), 2, "--classes and --num-classes"),
        (("--fraction", "0.5", "--per-class", "2"), 2, "--fraction and --per-class"),
        (("--classes", ""), 2, "names no class"),
        (("--classes", " , "), 2, "names no class"),
        (("--fraction", "0"), 2, "above 0"),
        (("--fraction", "1.5"), 2, "--fraction"),
        (("--classes-file", "absent.txt"), 2, "absent.txt: cannot be read"),
        (("--classes", "ca,t"), 1, "'ca' is not a class; did you mean 'n00000001 cat, house cat'"),
        (("--fraction", "0.5", "--thin", "test"), 1, "no split 'test'"),
        (("--fraction", "0.5", "--thin", "train", "--split", "val"), 1, "train is to be thinned"),
        (("--classes", "0", "--thin", "train"), 2, "--thin needs --fraction or --per-class"),
    ],
)
def test_a_subset_of_nonsense_is_refused(
    source: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], code: int, message: str
) -> None:
    printed = run(capsys, "subset", source.path, tmp_path / "small", *options, code=code)
    assert message in " ".join(printed.replace("│", " ").split())
    assert not (tmp_path / "small").exists()


def test_ffcv_files_are_adopted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ffcv").mkdir()
    split = write_split(tmp_path / "ffcv", [stored("a", 0, 0), stored("b", 1, 1)], num_classes=2)
    (tmp_path / "ffcv" / "train.index").unlink()
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    options = ("--classes", tmp_path / "names.txt")
    printed = run(capsys, "adopt", tmp_path / "ffcv" / "train.beton", tmp_path / "store", *options)
    assert "train: 2 pictures, 1 per class" in printed
    adopted = Store(tmp_path / "store")
    assert adopted.class_names == ("cat", "dog")
    assert adopted.split("train").encoded(1).tobytes() == split.encoded(1).tobytes()


@pytest.mark.parametrize("layout", ["folder", "webdataset"])
def test_pictures_are_exported(source: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str) -> None:
    printed = run(capsys, "export", source.path, tmp_path / "out", "--to", layout, "--shard-size", 5)
    assert f"exported to {tmp_path / 'out'}" in printed
    if layout == "folder":
        first = tmp_path / "out/train/n00000001/t0.jpg"
        assert first.read_bytes() == source.split("train").encoded(0).tobytes()
    else:
        with tarfile.open(tmp_path / "out/train-000000.tar") as tar:
            assert len(tar.getmembers()) == 15
    assert "not empty" in run(capsys, "export", source.path, tmp_path / "out", "--to", layout, code=1)


@pytest.mark.parametrize("command", ["show", "verify", "subset", "adopt", "export"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed = run(capsys, command, "--help")
    assert f"Example: fastbot store {command}" in " ".join(printed.replace("│", " ").split())
