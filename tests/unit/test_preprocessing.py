from __future__ import annotations

import pytest
import torchvision

from fastbot.errors import ModelError
from fastbot.models.preprocessing import Preprocessing
from fastbot.models.registry import names, preprocessing

# 255 x (0.485, 0.456, 0.406) and 255 x (0.229, 0.224, 0.225), by hand.
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def sizes(found: Preprocessing) -> tuple[int, int, float, str]:
    return found.crop_size, found.resize_size, round(found.crop_ratio, 4), found.interpolation


def test_ours_are_the_papers() -> None:
    for name in names():
        found = preprocessing(name)
        assert found.mean == (123.68, 116.779, 103.939)
        assert found.std == (58.393, 57.12, 57.375)
        assert sizes(found) == ((299, 342) if name == "inception_v3" else (224, 256)) + (0.875, "bilinear")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torchvision:resnet50", (224, 232, round(224 / 232, 4), "bilinear")),
        ("torchvision:inception_v3", (299, 342, round(299 / 342, 4), "bilinear")),
        ("torchvision:efficientnet_b0", (224, 256, 0.875, "bicubic")),
        ("timm:resnet50.a1_in1k", (224, 235, 0.95, "bicubic")),
        ("timm:resnet50.tv_in1k", (224, 256, 0.875, "bilinear")),
        ("timm:resnet26t", (256, 272, 0.94, "bicubic")),
    ],
)
def test_libraries_state_their_own(name: str, expected: tuple[int, int, float, str]) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    found = preprocessing(name)
    assert sizes(found) == expected
    assert found.mean == pytest.approx(IMAGENET_MEAN)
    assert found.std == pytest.approx(IMAGENET_STD)


def test_torchvisions_resize_and_normalization_are_those_of_its_transform() -> None:
    import numpy as np
    from PIL import Image

    found = preprocessing("torchvision:resnet50")
    grey = Image.new("RGB", (300, 400), (10, 100, 200))
    expected = torchvision.models.ResNet50_Weights.DEFAULT.transforms()(grey)
    assert expected.shape == (3, found.crop_size, found.crop_size)
    ours = (np.array([10, 100, 200]) - np.array(found.mean)) / np.array(found.std)
    assert expected[:, 0, 0].numpy() == pytest.approx(ours, rel=1e-5)


def test_timms_numbers_are_those_of_its_transform() -> None:
    data = pytest.importorskip("timm.data")
    import timm

    model = timm.create_model("resnet50.a1_in1k", pretrained=False)
    theirs = data.create_transform(**data.resolve_model_data_config(model))
    found = preprocessing("timm:resnet50.a1_in1k")
    resize, crop, *_, normalize = theirs.transforms
    assert (resize.size, crop.size[0]) == (found.resize_size, found.crop_size)
    assert resize.interpolation.value == found.interpolation
    assert (255 * normalize.mean).tolist() == pytest.approx(found.mean)
    assert (255 * normalize.std).tolist() == pytest.approx(found.std)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50", "Did you mean"),
        ("torchvision:resnet55", "Did you mean torchvision:resnet50"),
        ("timm:resnet50.nope", r"timm:resnet50\.nope has no preprocessing .*Invalid pretrained tag"),
        ("timm:resnet50.a1_in1", r"Did you mean timm:resnet50\.a1_in1k, "),
        ("timm:quux", "no model is named timm:quux"),
    ],
)
def test_unknown_names_are_refused(name: str, message: str) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    with pytest.raises(ModelError, match=message):
        preprocessing(name)


def test_other_crops_and_filters_are_refused() -> None:
    timm = pytest.importorskip("timm")
    stated = {name: timm.get_pretrained_cfg(name) for name in timm.list_models(pretrained=True)}
    odd = [name for name, each in stated.items() if each.has_weights and each.crop_mode != "center"]
    assert odd
    with pytest.raises(ModelError, match="fastbot evaluates centre squares of RGB pictures only"):
        preprocessing(f"timm:{odd[0]}")
