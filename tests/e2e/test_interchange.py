"""`fastbot import` and `fastbot export` as a user types them, with evaluation and prediction in between."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors import safe_open

from datasets_tools.store import Store
from fastbot.cli import main


def fastbot(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert left.value.code == code, printed.err
    return printed.err if code else printed.out


def test_foreign_weights_are_scored_predict_and_go_on(
    tmp_path: Path, store_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(store_path)
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18(num_classes=12).state_dict(), tmp_path / "a.pth")
    run, file = tmp_path / "run", tmp_path / "a.pth"
    asked = ["import", "torchvision:resnet18", "--weights", file, "--classes", store_path, "--out", run]
    said = fastbot(capsys, *asked)
    assert "pictures    256 -> 224 px, bilinear; mean 123.675, 116.28, 103.53, std 58.395, 57.12, 57.375\n" in said
    assert f"classes     12, from {store.class_names[0]!r}" in said
    said = fastbot(capsys, "eval", run, "--data", store_path, "--size", "64", "--crop-ratio", "0.95", "--device", "cpu")
    assert "67 -> 64 px (64 / 0.95 = 67.37, floor), bilinear" in said
    (tmp_path / "picture.jpg").write_bytes(store.split("val").encoded(0).tobytes())
    said = fastbot(capsys, "predict", run, tmp_path / "picture.jpg", "--json", "--device", "cpu")
    assert {guess["class"] for guess in json.loads(said)["predictions"]} <= set(store.class_names)
    out = tmp_path / "b.safetensors"
    said = fastbot(capsys, "export", run, "--to", "timm", "--out", out)
    assert "checked     logits as before" in said
    assert "model = timm.create_model('resnet18', num_classes=12, checkpoint_path=" in said
    with safe_open(out, "pt") as exported:
        assert tuple(json.loads(exported.metadata()["class_names"])) == store.class_names
        assert torch.equal(exported.get_tensor("fc.bias"), torch.load(file)["fc.bias"])


def test_what_cannot_be_done_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.pth").write_bytes(b"hello")
    (tmp_path / "one.txt").write_text("cat\n")
    asked = ["import", "torchvision:resnet18", "--weights", tmp_path / "a.pth", "--out", tmp_path / "run"]
    assert fastbot(capsys, *asked, code=1).startswith(f"error: {tmp_path}/a.pth is damaged, or no file of torch.save")
    line = fastbot(capsys, *asked, "--classes", tmp_path / "one.txt", code=1)
    assert line.startswith(f"error: --classes {tmp_path}/one.txt has 1 name;")
    line = fastbot(capsys, *asked, "--classes", tmp_path / "two.txt", code=1)
    assert line.startswith(f"error: --classes {tmp_path}/two.txt cannot be read")
    line = fastbot(capsys, "export", tmp_path, "--to", "torchscript", "--out", tmp_path / "a.pt", code=1)
    assert line.startswith(f"error: {tmp_path} is not a run folder")
