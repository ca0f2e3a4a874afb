from __future__ import annotations

import argparse
import os
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from fastbot.errors import CheckpointError
from fastbot.interchange.weight_files import check_fit, read_weights


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2))


WEIGHTS = network().state_dict()


def assert_same(weights: dict[str, Tensor]) -> None:
    assert list(weights) == list(WEIGHTS)
    assert all(torch.equal(weights[name], tensor) for name, tensor in WEIGHTS.items())


def saved(value: object, path: Path) -> Path:
    torch.save(value, path)
    return path


@pytest.mark.parametrize(
    ("value", "entry"),
    [
        (WEIGHTS, ""),
        ({"state_dict": WEIGHTS, "epoch": 3, "arch": "resnet50"}, "state_dict"),
        ({"model": WEIGHTS, "optimizer": {"state": {}}, "args": argparse.Namespace(lr=0.1, data=["a"])}, "model"),
        ({"model_state_dict": WEIGHTS}, "model_state_dict"),
        (nn.DataParallel(network()).state_dict(), ""),
        ({"state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in WEIGHTS.items()}}, "state_dict"),
        (AveragedModel(network()).state_dict(), ""),
    ],
)
def test_the_usual_wrappers_are_unpacked(value: object, entry: str, tmp_path: Path) -> None:
    read = read_weights(saved(value, tmp_path / "a.pth.tar"))
    assert_same(read.weights)
    assert (read.entry, read.others, read.metadata) == (entry, (), {})


def test_averages_are_told_and_taken_when_named(tmp_path: Path) -> None:
    others = {name: tensor + 1 for name, tensor in WEIGHTS.items()}
    file = saved({"model": others, "model_ema": AveragedModel(network()).state_dict()}, tmp_path / "a.pth")
    read = read_weights(file)
    assert (read.entry, read.others) == ("model", ("model_ema",))
    assert torch.equal(read.weights["2.bias"], others["2.bias"])
    read = read_weights(file, "model_ema")
    assert (read.entry, read.others) == ("model_ema", ("model",))
    assert_same(read.weights)


def test_safetensors_come_with_their_metadata(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "a.safetensors", metadata={"format": "pt", "note": "ü"})
    read = read_weights(tmp_path / "a.safetensors")
    assert sorted(read.weights) == sorted(WEIGHTS)
    assert_same({name: read.weights[name] for name in WEIGHTS})
    assert read.metadata == {"format": "pt", "note": "ü"}


class Evil:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("old_format", [False, True])
def test_no_code_of_a_file_is_run(old_format: bool, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    value = {"state_dict": WEIGHTS, "args": Evil(os.mkdir, (str(victim),))}
    torch.save(value, tmp_path / "a.pth", _use_new_zipfile_serialization=not old_format)
    with pytest.raises(CheckpointError, match=r"a.pth holds posix.mkdir, which is not weights; .* so nothing was loa"):
        read_weights(tmp_path / "a.pth")
    assert not victim.exists()
    torch.load(tmp_path / "a.pth", weights_only=False)
    assert victim.exists(), "or else the file was harmless"


def test_a_whole_module_is_refused_with_what_to_do(tmp_path: Path) -> None:
    message = r"torch.*, which is not weights.*save its state dict alone: torch\.save\(torch\.load\(FILE, weights_only"
    with pytest.raises(CheckpointError, match=message):
        read_weights(saved(network(), tmp_path / "a.pth"))


def test_graphs_are_told_from_weights(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Of a TorchScript module torch says to read it unsafely, and of an ONNX graph that it is damaged."""
    module = network()
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(module), tmp_path / "a.pth")
    (tmp_path / "a.onnx").write_bytes(b"\x08\x08")
    recwarn.clear()
    for name, kind in (("a.pth", "a TorchScript module"), ("a.onnx", "an ONNX graph")):
        with pytest.raises(CheckpointError, match=rf"{name} is {kind}, which holds a computation\..* state dict"):
            read_weights(tmp_path / name)
    assert not recwarn.list


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("damage", ["nothing", "text", "digits", "html", "cut in half", "cut at its end", "header"])
def test_damaged_files_are_named(damage: str, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{suffix}"
    if suffix == ".pth":
        torch.save(WEIGHTS, file)
    else:
        save_file(WEIGHTS, file)
    whole = file.read_bytes()
    damaged = {
        "nothing": b"",
        "text": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "digits": b"hi\n",
        "html": b"<html>not found</html>",
        "cut in half": whole[: len(whole) // 2],
        "cut at its end": whole[:-30],
        "header": b"\xff" * 16 + whole[16:],
    }
    file.write_bytes(damaged[damage])
    with pytest.raises(CheckpointError, match=rf"^{re.escape(str(file))} is damaged, or no .*Get it again$") as caught:
        read_weights(file)
    assert "\n" not in str(caught.value)
    assert ".." not in str(caught.value)
    assert not re.search(r": \d+\. Get", str(caught.value)), "a key of pickle's is no reason"


@pytest.mark.parametrize(
    ("value", "entry", "message"),
    [
        ({"epoch": 3}, None, r"a.pth holds no weights \(tensors by name\)\. There are none in it"),
        ([1, 2], None, "a.pth holds no weights"),
        ({}, None, "a.pth holds no weights"),
        ({"ema": WEIGHTS, "net": WEIGHTS}, None, "Weights are in: ema, net. Name one with --entry"),
        ({"ema": WEIGHTS}, "state_dict_ema", "'state_dict_ema' of .*a.pth holds no weights .* are in: ema"),
        (WEIGHTS, "model", "'model' of .*a.pth holds no weights"),
        (torch.zeros(3), None, "a.pth holds no weights"),
    ],
)
def test_what_holds_no_weights_says_where_there_are_some(
    value: object, entry: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_weights(saved(value, tmp_path / "a.pth"), entry)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a\.pth is not there\. Give a"):
        read_weights(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="is not a file"):
        read_weights(tmp_path)


def test_weights_that_do_not_fit_are_named_the_first_five_and_counted() -> None:
    fitting = dict(WEIGHTS)
    check_fit(fitting, network(), "a.pth", "tiny")
    del fitting["1.num_batches_tracked"]  # as before torch 0.4.1
    check_fit(fitting, network(), "a.pth", "tiny")
    renamed = {f"other.{name}": tensor for name, tensor in WEIGHTS.items()}
    message = (
        r"a\.pth does not fit tiny: of its weights 8 missing \(0\.weight, 0\.bias, 1\.weight, 1\.bias, "
        r"1\.running_mean, \.\.\.\); 9 unexpected \(other\.0\.weight, .*Give the model that they are of$"
    )
    with pytest.raises(CheckpointError, match=message):
        check_fit(renamed, network(), "a.pth", "tiny")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"2.weight": torch.zeros(7, 4), "2.bias": torch.zeros(7)},
            r"2 of another shape \(2\.weight is 7 x 4, there 2 x 4, 2\.bias is 7, there 2\)\. Give the --classes",
        ),
        ({"0.weight": torch.zeros(4, 1, 1, 1)}, r"1 of another shape \(0\.weight is 4 x 1 x 1 x 1, .*Give the model"),
        ({"0.bias": torch.full((4,), torch.inf)}, r"holds nan or infinity in 0\.bias\. Its training diverged"),
    ],
)
def test_other_shapes_and_broken_numbers_are_named(changes: dict[str, Tensor], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        check_fit({**WEIGHTS, **changes}, network(), "a.pth", "tiny")
