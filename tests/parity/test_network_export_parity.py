"""Every format is loaded by the library it is for, by the lines that the command prints, and puts out the logits."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors import safe_open
from torch import nn
from trained_runs import CLASSES, MEAN, STD, normalized, pictures, recipe_of, save_run, trained_network

from fastbot.interchange.export import export
from fastbot.interchange.formats import FormatName
from fastbot.interchange.timm_file import crop_pct
from pipelines.spec import EvalSpec

# The tests' own torch.jit.load, which torch 2.14 calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")


def exported(tmp_path: Path, to: FormatName, out: str, model: str, size: int = 64, **options: Any) -> tuple[Any, ...]:
    """Export a run; return what running the printed lines names, the network of the run, and the file."""
    with_preprocessing = options.pop("with_preprocessing", False)
    recipe = recipe_of(model, size, **options)
    network = trained_network(recipe)
    run = save_run(tmp_path / "run", recipe, network)
    written = export(run, to, tmp_path / out, with_preprocessing=with_preprocessing)
    names: dict[str, Any] = {"torch": torch, "torchvision": torchvision, "timm": timm, "onnxruntime": onnxruntime}
    names |= {"safe_open": safe_open, "images": normalized(pictures(4, size)).numpy(), "pixels": pictures(4).numpy()}
    exec(written.usage, names)
    return names, network, written.path


def same_logits(theirs: nn.Module, ours: nn.Module, size: int = 64, atol: float = 0.0) -> None:
    images = normalized(pictures(3, size))
    with torch.no_grad():
        expected = ours.to(memory_format=torch.contiguous_format)(images)
        torch.testing.assert_close(theirs.eval()(images), expected, rtol=0, atol=atol * float(expected.abs().max()))
    assert expected.std() > 1e-3, "logits that say nothing would be equal by chance"


def test_safetensors(tmp_path: Path) -> None:
    names, network, path = exported(tmp_path, "safetensors", "a.safetensors", "resnet18v1", drop_path=0.1)
    file, weights = names["file"], network.state_dict()
    assert sorted(file.keys()) == sorted(weights)
    for name, tensor in weights.items():
        assert torch.equal(file.get_tensor(name), tensor)
    metadata = file.metadata()
    assert tuple(json.loads(metadata["class_names"])) == CLASSES
    assert (json.loads(metadata["mean"]), json.loads(metadata["std"])) == (list(MEAN), list(STD))
    expected = {"model": "resnet18v1", "recipe": "tiny", "checkpoint": "step-00000007", "format": "pt"}
    expected |= {"crop_size": "64", "resize_size": "73", "interpolation": "bicubic"}
    assert expected.items() <= metadata.items()
    assert path.stat().st_mode & 0o444 == 0o444 & ~_umask(tmp_path), "readable by whoever may read files here"


def _umask(tmp_path: Path) -> int:
    (tmp_path / "plain").touch()
    return 0o777 & ~(tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("model", "size", "options"),
    [
        ("resnet18v1", 64, {"drop_path": 0.1, "dropout": 0.2}),
        ("inception_v3", 75, {"aux_weight": 0.4}),
        ("torchvision:shufflenet_v2_x0_5", 64, {}),
        ("timm:resnet18", 64, {}),
    ],
)
def test_torchvision(model: str, size: int, options: dict[str, float], tmp_path: Path) -> None:
    names, network, _ = exported(tmp_path, "torchvision", "a.pth", model, size, **options)
    assert type(names["model"]).__module__.startswith("torchvision.")
    same_logits(names["model"], network, size)


@pytest.mark.parametrize(
    ("model", "file"),
    [
        ("resnet18b", "a.pth"),
        ("resnet18c", "a.safetensors"),
        ("resnet18d", "a.pt"),
        ("mobilenet", "a.safetensors"),
        ("timm:test_convnext", "a.safetensors"),
    ],
)
def test_timm(model: str, file: str, tmp_path: Path) -> None:
    names, network, _ = exported(tmp_path, "timm", file, model)
    same_logits(names["model"], network)
    assert names["model"].num_classes == len(CLASSES)
    assert_preprocessing(names["model"])


def assert_preprocessing(model: nn.Module) -> None:
    """Timm's own transform of a picture is ours, up to the 8 bits that both resize in."""
    picture = Image.effect_noise((200, 150), 60).convert("RGB")
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
    resized = picture.resize((round(73 * 200 / 150), 73), Image.Resampling.BICUBIC)
    left, top = round((resized.width - 64) / 2), round((73 - 64) / 2)
    cropped = resized.crop((left, top, left + 64, top + 64))
    pixels = torchvision.transforms.functional.pil_to_tensor(cropped)[None]
    torch.testing.assert_close(transform(picture)[None], normalized(pixels), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", ["resnet18c", "mobilenet", "timm:test_resnet"])
def test_hugging_face(model: str, tmp_path: Path) -> None:
    names, network, path = exported(tmp_path, "hf", "folder", model)
    same_logits(names["model"], network)
    assert_preprocessing(names["model"])
    assert names["model"].pretrained_cfg["label_names"] == list(CLASSES)
    assert sorted(file.name for file in path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    # Whoever fine-tunes it gets a new classifier and, of grey pictures, a first convolution adapted by timm.
    other = timm.create_model(f"local-dir:{path}", pretrained=True, num_classes=2, in_chans=1)
    assert other.eval()(torch.zeros(1, 1, 64, 64)).shape == (1, 2)


def test_the_model_card_says_how_good_it_is_and_how_it_was_trained(tmp_path: Path) -> None:
    recipe = recipe_of("timm:test_resnet")
    run = save_run(tmp_path / "run", recipe, trained_network(recipe), best_top1=0.7512, top1=0.74)
    for checkpoint, says in {"best": "75.12%", "last": "74.00%", "step-00000007": "not known"}.items():
        card = (export(run, "hf", tmp_path / checkpoint, checkpoint=checkpoint).path / "README.md").read_text()
        assert f"| top-1 on the validation split | {says} |" in card
    header, _, rest = card.removeprefix("---\n").partition("---\n")
    assert "library_name: timm" in header
    assert "mean 100, 110, 120.5, std 50, 55, 60.25" in rest
    (tmp_path / "recipe.toml").write_text(card.split("```toml\n")[1].split("```")[0])
    assert (tmp_path / "recipe.toml").read_text() == (run.path / "recipe.toml").read_text()
    use = card.split("```python\n")[1].split("```")[0].replace("hf-hub:USER/NAME", f"local-dir:{tmp_path / 'best'}")
    Image.new("RGB", (80, 90)).save(tmp_path / "picture.jpg")
    exec(use.replace("picture.jpg", str(tmp_path / "picture.jpg")), {"print": lambda name: CLASSES.index(name)})


def test_a_crop_ratio_is_the_one_that_the_paper_wrote() -> None:
    written = {(256, 224): 0.875, (235, 224): 0.95, (342, 299): 0.874, (224, 224): 1.0, (320, 288): 0.9}
    for (resize_size, crop_size), ratio in written.items():
        assert crop_pct(EvalSpec(resize_size=resize_size, crop_size=crop_size)) == ratio


def test_timm_gets_the_size_back_from_every_crop_ratio() -> None:
    for resize_size in range(1, 520):
        for crop_size in {1, resize_size // 3 + 1, resize_size * 7 // 8 + 1, resize_size}:
            ratio = crop_pct(EvalSpec(resize_size=resize_size, crop_size=min(crop_size, resize_size)))
            assert math.floor(min(crop_size, resize_size) / ratio) == resize_size
            assert 0 < ratio <= 1


@pytest.mark.parametrize(("model", "with_preprocessing"), [("resnet18d", True), ("timm:test_resnet", False)])
def test_onnx(model: str, with_preprocessing: bool, tmp_path: Path) -> None:
    names, network, path = exported(tmp_path, "onnx", "a.onnx", model, with_preprocessing=with_preprocessing)
    for rows in (1, 4):
        pixels = pictures(rows)
        with torch.no_grad():
            expected = network(normalized(pixels))
        given = {"pixels": pixels} if with_preprocessing else {"images": normalized(pixels)}
        (found,) = names["session"].run(["logits"], {name: tensor.numpy() for name, tensor in given.items()})
        bound = 1e-5 * float(expected.abs().max())
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=bound)
    graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=True)
    metadata = {item.key: item.value for item in graph.metadata_props}
    assert tuple(json.loads(metadata["class_names"])) == CLASSES
    assert [entry.version for entry in graph.opset_import if not entry.domain] == [int(metadata["opset"])]
    batch, *rest = graph.graph.input[0].type.tensor_type.shape.dim
    assert (batch.dim_param, [dim.dim_value for dim in rest]) == ("batch", [3, 64, 64])


_WITHOUT_FASTBOT = """
import json, sys, torch
sys.modules["fastbot"] = sys.modules["pipelines"] = None
extra = {"fastbot.json": ""}
model = torch.jit.load(sys.argv[1], _extra_files=extra)
logits = [model(images) for images in torch.load(sys.argv[2])]
torch.save((json.loads(extra["fastbot.json"])["class_names"], logits), sys.argv[3])
"""


def test_torchscript_runs_without_fastbot(tmp_path: Path) -> None:
    _, network, path = exported(tmp_path, "torchscript", "a.pt", "timm:test_resnet", with_preprocessing=True)
    batches = [pictures(1), pictures(4), pictures(4).float(), pictures(2, size=96)]
    torch.save(batches, tmp_path / "batches.pt")
    files = [str(file) for file in (path, tmp_path / "batches.pt", tmp_path / "logits.pt")]
    subprocess.run([sys.executable, "-W", "ignore", "-c", _WITHOUT_FASTBOT, *files], check=True, cwd=tmp_path)
    class_names, logits = torch.load(tmp_path / "logits.pt")
    assert tuple(json.loads(class_names)) == CLASSES
    for pixels, found in zip(batches, logits, strict=True):
        with torch.no_grad():
            expected = network(normalized(pixels))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_torchscript_takes_normalized_pictures_unless_told_otherwise(tmp_path: Path) -> None:
    names, network, _ = exported(tmp_path, "torchscript", "a.pt", "timm:test_resnet")
    same_logits(names["model"], network, atol=1e-6)
    assert "float32, (pixels - mean) / std" in json.loads(names["extra"]["fastbot.json"])["input"]
