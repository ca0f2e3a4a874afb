from __future__ import annotations

import json
from pathlib import Path
from urllib.error import URLError

import huggingface_hub.constants
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from trained_runs import CLASSES, CPU, MEAN, STD, normalized, pictures, recipe_of, save_run, trained_network

from fastbot.errors import CheckpointError, ModelError, RecipeError, RunError
from fastbot.interchange.export import export
from fastbot.interchange.importing import Request, import_run
from fastbot.interchange.trained import load_trained
from fastbot.models import registry
from fastbot.runs import RunFolder
from fastbot.specs import BinaryCrossEntropySpec, CrossEntropySpec, TeacherSpec
from fastbot.teachers import load_teacher
from pipelines.spec import DataSpec

IMAGENET = tuple(f"n{number:08d}" for number in range(1000))
LOSSES = {"bce": BinaryCrossEntropySpec(), "cross_entropy": CrossEntropySpec()}
SHUFFLENET, RESNET = "torchvision:shufflenet_v2_x0_5", "timm:test_resnet.r160_in1k"


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of both libraries, and no network to fill them from."""

    def no_network(*arguments: object, **options: object) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hugging_face"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    monkeypatch.setattr("fastbot.downloads.urlopen", no_network)
    return tmp_path


def publish(network: nn.Module, file: str, caches: Path) -> None:
    """Put weights where torchvision looks for those that it publishes."""
    folder = caches / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(network.state_dict(), folder / file)


def random_statistics(network: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def weights_file(path: Path, num_classes: int = 5) -> Path:
    network = random_statistics(torchvision.models.shufflenet_v2_x0_5(num_classes=num_classes))
    torch.save({"model": network.state_dict(), "epoch": 1}, path)
    return path


def imported(tmp_path: Path, name: str = SHUFFLENET, **asked: object) -> RunFolder:
    request = Request(name=name, class_names_of_1000=IMAGENET, **asked)  # type: ignore[arg-type]
    import_run(request, tmp_path / "imported")
    return RunFolder(tmp_path / "imported")


def logits(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = network.eval()(images)
    return found


def test_a_file_becomes_a_run(tmp_path: Path) -> None:
    run = imported(tmp_path, file=weights_file(tmp_path / "a.pth"), class_names=CLASSES)
    recipe = run.recipe()
    data = recipe.data
    assert (recipe.model.name, recipe.epochs.value) == (SHUFFLENET, 0)
    assert data.mean == pytest.approx((123.675, 116.28, 103.53))
    assert data.std == pytest.approx((58.395, 57.12, 57.375))
    assert (data.eval.resize_size, data.eval.crop_size, data.eval.interpolation) == (256, 224, "bilinear")
    assert {path.name for path in run.checkpoints.path.iterdir()} == {"best", "last", "step-00000000"}
    expected = torchvision.models.shufflenet_v2_x0_5(num_classes=5)
    expected.load_state_dict(torch.load(tmp_path / "a.pth")["model"])
    for name in ("best", "last"):
        checkpoint = run.checkpoints.load(name)
        assert checkpoint.identity.class_names == CLASSES
        assert checkpoint.weights.keys() == expected.state_dict().keys()
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(logits(load_trained(run).network, images), logits(expected, images), rtol=0, atol=0)
    assert run.summary() == {}


def test_torchvisions_own_weights_come_with_imagenets_names(tmp_path: Path, caches: Path) -> None:
    network = random_statistics(torchvision.models.shufflenet_v2_x0_5())
    publish(network, "shufflenetv2_x0.5-f707e7126e.pth", caches)
    run = imported(tmp_path)
    assert run.checkpoints.load("best").identity.class_names == IMAGENET
    assert "ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1" in run.recipe().about
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(logits(load_trained(run).network, images), logits(network, images), rtol=0, atol=0)


def test_a_network_that_turns_its_input_gets_it_turned_already(tmp_path: Path, caches: Path) -> None:
    """Torchvision's GoogLeNet with its own weights: the recipe's normalization is the one behind `transform_input`."""
    untrained = torchvision.models.googlenet(aux_logits=True, init_weights=False)
    publish(random_statistics(untrained), "googlenet-1378be20.pth", caches)
    run = imported(tmp_path, "torchvision:googlenet")
    theirs = torchvision.models.googlenet(weights="DEFAULT")
    pixels = pictures(2)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = logits(theirs, (pixels / 255 - mean) / std)
    found = logits(load_trained(run).network, (pixels - 127.5) / 127.5)
    assert (run.recipe().data.mean, run.recipe().data.std) == ((127.5,) * 3, (127.5,) * 3)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_timms_own_weights_by_a_tag(tmp_path: Path, caches: Path) -> None:
    network = random_statistics(timm.create_model("test_resnet"))
    repository, commit = caches / "hugging_face" / "models--timm--test_resnet.r160_in1k", "0" * 40
    for folder in ("refs", f"snapshots/{commit}"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    save_file(network.state_dict(), repository / "snapshots" / commit / "model.safetensors")
    run = imported(tmp_path, RESNET)
    stated = timm.get_pretrained_cfg("test_resnet.r160_in1k")
    recipe = run.recipe()
    assert (recipe.name, recipe.model.name) == (RESNET, "timm:test_resnet")
    assert recipe.data.eval.crop_size == stated.input_size[1]
    assert recipe.data.eval.interpolation == stated.interpolation
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(logits(load_trained(run).network, images), logits(network, images), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("tag", "resize_size", "crop_size"), [("a1_in1k", 235, 224), ("a3_in1k", 168, 160), ("tv_in1k", 256, 224)]
)
def test_pictures_are_as_the_tag_says(
    tag: str, resize_size: int, crop_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timm's table for ResNet-50 with the weights of ResNet strikes back; its network is left out, to be quick."""
    small = registry.build_model("timm:test_resnet", 1000)
    monkeypatch.setattr("fastbot.interchange.importing.model_on", lambda *arguments: small)
    torch.save(small.state_dict(), tmp_path / "a.pth")
    spec = imported(tmp_path, f"timm:resnet50.{tag}", file=tmp_path / "a.pth").recipe().data.eval
    assert (spec.resize_size, spec.crop_size) == (resize_size, crop_size)


def test_a_run_that_was_exported_comes_back_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    recipe = recipe_of("timm:test_resnet", size=96)
    network = trained_network(recipe)
    file = export(save_run(tmp_path / "run", recipe, network), "safetensors", tmp_path / "a.safetensors").path
    back = imported(tmp_path, "timm:test_resnet", file=file)
    loaded = load_trained(back)
    assert loaded.class_names == CLASSES
    assert (loaded.recipe.data.mean, loaded.recipe.data.std) == (MEAN, STD)
    assert loaded.recipe.data.eval.model_dump(exclude={"global_batch_size"}) == {
        "resize_size": 105,
        "crop_size": 96,
        "interpolation": "bicubic",
    }
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("model", "loss"), [({}, "bce"), ({"blur_pool": True}, "cross_entropy")], ids=["yes or no", "blurred"]
)
def test_what_decides_its_answers_comes_back(model: dict[str, object], loss: str, tmp_path: Path) -> None:
    """Weights say neither that a network was asked yes or no of each class, nor that it blurs before it strides."""
    recipe = recipe_of("timm:test_resnet", size=32, **model).model_copy(update={"loss": LOSSES[loss]})
    network = trained_network(recipe)
    file = export(save_run(tmp_path / "run", recipe, network), "safetensors", tmp_path / "a.safetensors").path
    loaded = load_trained(imported(tmp_path, "timm:test_resnet", file=file))
    assert loaded.recipe.loss.kind == loss
    images = normalized(pictures(2, 32))
    expected = logits(network.to(memory_format=torch.contiguous_format), images)
    torch.testing.assert_close(logits(loaded.network, images), expected)


def test_overrides_go_before_what_the_metadata_says(tmp_path: Path) -> None:
    recipe = recipe_of("timm:test_resnet", size=32).model_copy(update={"loss": LOSSES["bce"]})
    run = save_run(tmp_path / "run", recipe, trained_network(recipe))
    file = export(run, "safetensors", tmp_path / "a.safetensors").path
    back = imported(tmp_path, "timm:test_resnet", file=file, overrides=["loss.kind=cross_entropy"])
    assert back.recipe().loss.kind == "cross_entropy"


@pytest.mark.parametrize(("to", "model"), [("torchvision", "torchvision:resnet18"), ("timm", "timm:test_resnet")])
def test_what_other_libraries_got_comes_back(to: str, model: str, tmp_path: Path) -> None:
    recipe = recipe_of(model, size=32)
    network = trained_network(recipe)
    file = export(save_run(tmp_path / "run", recipe, network), to, tmp_path / "a.pth").path  # type: ignore[arg-type]
    model = model.replace("torchvision:resnet18", "resnet18b")  # the same network
    loaded = load_trained(imported(tmp_path, model, file=file, class_names=CLASSES))
    images = normalized(pictures(2))
    torch.testing.assert_close(
        logits(loaded.network, images), logits(network.to(memory_format=torch.contiguous_format), images)
    )


def test_it_is_a_teacher(tmp_path: Path) -> None:
    run = imported(tmp_path, file=weights_file(tmp_path / "a.pth"), class_names=CLASSES)
    teacher, identity = load_teacher(TeacherSpec(teacher=str(run.path)), CLASSES, run.recipe().data, CPU, "fp32")
    images = torch.randn(2, 3, 64, 64)
    expected = logits(load_trained(run).network, images)
    with torch.no_grad():
        torch.testing.assert_close(teacher(images), expected, rtol=1e-4, atol=1e-5)
    assert identity.weights.endswith("step-00000000")
    student = DataSpec()
    with pytest.raises(RecipeError, match="class 0 of teacher"):
        load_teacher(TeacherSpec(teacher=str(run.path)), CLASSES[::-1], student, CPU, "fp32")


def test_overrides_change_the_recipe(tmp_path: Path) -> None:
    overrides = ["data.eval.crop_size=64", "data.eval.resize_size=72", "loss.kind=bce"]
    run = imported(tmp_path, file=weights_file(tmp_path / "a.pth"), class_names=CLASSES, overrides=overrides)
    recipe = run.recipe()
    assert (recipe.data.eval.crop_size, recipe.data.eval.resize_size, recipe.loss.kind) == (64, 72, "bce")
    assert load_trained(run).metadata()["output"] == "logits (N, 5); probabilities by sigmoid"


@pytest.mark.parametrize(
    ("name", "num_classes", "asked", "error", "message"),
    [
        (SHUFFLENET, 5, {}, CheckpointError, r"shapes? \(fc.weight is 5 x 1024, there 1000 x 1024.*--classes"),
        (SHUFFLENET, 7, {"class_names": CLASSES}, CheckpointError, r"fits? .* with 5 classes.*fc.bias is 7, there 5"),
        ("timm:test_resnet", 5, {"class_names": CLASSES}, CheckpointError, r"missing \(.*, \.\.\.\); .*unexpected \("),
        (SHUFFLENET, 5, {"entry": "ema"}, CheckpointError, "'ema' of .* holds no weights.*are in: model"),
        ("torchvision:shufflenet", 5, {}, ModelError, "Did you mean torchvision:shufflenet_v2"),
        (
            SHUFFLENET,
            5,
            {"class_names": CLASSES, "overrides": ["data.crop=1"]},
            RecipeError,
            r"^data.crop .*shufflenet",
        ),
        (
            SHUFFLENET,
            5,
            {"class_names": CLASSES, "overrides": ["data.evl=1"]},
            RecipeError,
            r"recipe key \(torchvision:",
        ),
        ("timm:test_vit", 5, {}, CheckpointError, "does not fit timm:test_vit with 1,000 classes"),
    ],
)
def test_what_does_not_fit_is_one_clear_error_and_leaves_nothing(
    name: str, num_classes: int, asked: dict[str, object], error: type[Exception], message: str, tmp_path: Path
) -> None:
    file = weights_file(tmp_path / "a.pth", num_classes)
    with pytest.raises(error, match=message):
        imported(tmp_path, name, file=file, **asked)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_a_size_that_the_network_does_not_take_is_refused(tmp_path: Path) -> None:
    torch.save(torchvision.models.squeezenet1_1(num_classes=5).state_dict(), tmp_path / "a.pth")
    asked = {"file": tmp_path / "a.pth", "class_names": CLASSES, "overrides": ["data.eval.crop_size=8"]}
    with pytest.raises(ModelError, match="squeezenet1_1 does not take pictures of 8 px: .* Change data.eval.crop_size"):
        imported(tmp_path, "torchvision:squeezenet1_1", **asked)


def test_weights_without_names_of_their_classes_are_refused(tmp_path: Path, caches: Path) -> None:
    publish(torchvision.models.shufflenet_v2_x0_5(), "shufflenetv2_x0.5-f707e7126e.pth", caches)
    with pytest.raises(RunError, match="IMAGENET1K_V1 tells 1,000 classes apart, and --classes names 5. Give"):
        imported(tmp_path, class_names=CLASSES)


def test_without_network_a_file_is_the_way(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"weights of .* cannot be loaded: .*no network") as caught:
        imported(tmp_path)
    assert caught.value.__notes__ == [f"Or bring the file alone: fastbot import {SHUFFLENET} --weights FILE"]
    with pytest.raises(ModelError, match="nobody publishes weights of fastbot's resnet50v1. Give a file with --w"):
        imported(tmp_path, "resnet50v1")
    with pytest.raises(ModelError, match="^resnet50 does not say whose it is: take torchvision:resnet50 or timm:resn"):
        imported(tmp_path, "resnet50")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "resnet50v1"}, "holds the weights of resnet50v1, which is another network than torchvision:shuffle"),
        ({"class_names": "[1, 2]"}, "class_names in its metadata is missing or damaged"),
        ({"class_names": "["}, "class_names in its metadata is missing or damaged"),
        ({"mean": "[1, 2]"}, "mean in its metadata is missing or damaged"),
        ({"std": None}, "std in its metadata is missing or damaged"),
        ({"crop_size": '"large"'}, "crop_size in its metadata is missing or damaged"),
        ({"blur_pool": "perhaps"}, "blur_pool in its metadata is missing or damaged"),
        ({"probabilities": "tanh"}, "probabilities in its metadata is missing or damaged"),
        ({"interpolation": "lanczos"}, "interpolation in its metadata is missing or damaged"),
    ],
)
def test_metadata_that_makes_no_sense_is_refused(change: dict[str, str | None], message: str, tmp_path: Path) -> None:
    metadata = {
        "fastbot_version": "0.1.0",
        "model": SHUFFLENET,
        "class_names": json.dumps(CLASSES),
        "mean": "[1, 2, 3]",
        "std": "[1, 2, 3]",
        "crop_size": "64",
        "resize_size": "64",
        "interpolation": "bilinear",
    }
    changed = {name: value for name, value in {**metadata, **change}.items() if value is not None}
    network = torchvision.models.shufflenet_v2_x0_5(num_classes=5)
    save_file(network.state_dict(), tmp_path / "a.safetensors", metadata=changed)
    with pytest.raises(CheckpointError, match=message):
        imported(tmp_path, file=tmp_path / "a.safetensors")
    save_file(network.state_dict(), tmp_path / "a.safetensors", metadata=metadata)
    assert imported(tmp_path, file=tmp_path / "a.safetensors").recipe().data.mean == (1, 2, 3)


def test_a_taken_folder_is_refused(tmp_path: Path) -> None:
    asked = {"file": weights_file(tmp_path / "a.pth"), "class_names": CLASSES}
    (tmp_path / "imported").mkdir()  # an empty one is free
    imported(tmp_path, **asked)
    with pytest.raises(RunError, match=r"imported is already there\. Choose another --out$"):
        imported(tmp_path, **asked)
    with pytest.raises(RunError, match="is already there. Choose another --out"):
        import_run(Request(SHUFFLENET, **asked), tmp_path / "a.pth")  # type: ignore[arg-type]


def test_a_place_that_cannot_be_written_to_is_named_as_it_was_given(tmp_path: Path) -> None:
    asked = {"file": weights_file(tmp_path / "a.pth"), "class_names": CLASSES}
    out = Path("/proc/imported")  # not even root may write there
    with pytest.raises(RunError, match=r"^/proc/imported cannot be written: (?!.*\.writing)"):
        import_run(Request(SHUFFLENET, **asked), out)  # type: ignore[arg-type]
