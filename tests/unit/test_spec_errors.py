"""What somebody reads who wrote a spec that makes no sense."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from fastbot.recipe import Recipe
from pipelines.spec import DataSpec
from pipelines.spec_errors import explain


def explained(values: Any) -> str:
    with pytest.raises(ValidationError) as raised:
        DataSpec.model_validate(values)
    return explain(raised.value, DataSpec, "my.toml", "a field")


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"crop_size": -1}, "crop_size is -1 (my.toml): it should be greater than 0"),
        (
            {"auto_augment": {"kind": "rand", "magnitude": 11}},
            "auto_augment.magnitude is 11 (my.toml): it should be less than or equal to 10",
        ),
        (
            {"order": {"kind": "weighted", "weights": [1, -1]}},
            "order.weights.1 is -1 (my.toml): it should be greater than or equal to 0",
        ),
        ({"interpolation": "area"}, "interpolation is 'area' (my.toml): it should be 'bilinear' or 'bicubic'"),
        ({"mean": [1, 2]}, "mean is [1, 2] (my.toml): its value number 3 is missing"),
        ({"auto_augment": {"kind": "rnd"}}, "auto_augment.kind is 'rnd' (my.toml): choose none, rand or trivial"),
        ({"auto_augment": {"layers": 3}}, "auto_augment has no kind (my.toml): choose none, rand or trivial"),
        (
            {"auto_augment": "rand"},
            "auto_augment is 'rand' (my.toml): it should be a table whose kind is none, rand or trivial",
        ),
        ({"crop": 3}, "crop is 3 (my.toml): it should be a table of any of area, aspect, attempts"),
        ({"std": [0, 1, 1]}, "my.toml: std is [0.0, 1.0, 1.0]: every value must be positive"),
        (
            {"crop": {"area": [0.5, 0.1]}},
            "crop (my.toml): area is [0.5, 0.1]: the first bound must not exceed the second",
        ),
    ],
)
def test_a_wrong_value_is_named_as_it_is_written(values: Any, line: str) -> None:
    assert explained(values) == line


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"crop_sise": 3}, "crop_sise is not a field (my.toml). Did you mean crop_size?"),
        ({"batch_size": 3}, "batch_size is not a field (my.toml). Did you mean global_batch_size?"),
        ({"resize_size": 3}, "resize_size is not a field (my.toml). Did you mean eval.resize_size?"),
        ({"resize_sise": 3}, "resize_sise is not a field (my.toml). Did you mean eval.resize_size?"),
        ({"area": [0.1, 1]}, "area is not a field (my.toml). Did you mean crop.area or erasing.area?"),
        ({"mix": {"kind": "mixup", "alpa": 1}}, "mix.alpa is not a field (my.toml). Did you mean mix.alpha?"),
        (
            {"crop": {"zzz": 1}},
            "crop.zzz is not a field (my.toml). The keys of crop are area, aspect, attempts",
        ),
        ({"crop": {1: 2}}, "crop.1 is not a field (my.toml). The keys of crop are area, aspect, attempts"),
        (
            {"auto_augment": {"kind": "trivial", "magnitude": 3}},
            "auto_augment.magnitude has no meaning where auto_augment.kind is trivial (my.toml): leave it out, "
            "or choose kind rand",
        ),
        (
            {"mix": {"kind": "mixup", "cutmix": 1}},
            "mix.cutmix is not a field (my.toml): cutmix is a kind. Write mix.kind=cutmix",
        ),
        (
            {"mix": {"kind": "none", "alpha": 1}},
            "mix.alpha has no meaning where mix.kind is none (my.toml): leave it out, or choose kind mixup or cutmix",
        ),
    ],
)
def test_an_unknown_key_says_which_was_meant(values: Any, line: str) -> None:
    assert explained(values) == line


def test_what_nothing_resembles_is_answered_with_the_list() -> None:
    assert explained({"zzz": 1}) == (
        f"zzz is not a field (my.toml). The keys outside of tables are {', '.join(DataSpec.model_fields)}"
    )


def test_every_problem_has_a_line() -> None:
    lines = explained({"crop_sise": 3, "flip": 2, "eval": {"crop_size": 0}}).splitlines()
    assert sorted(line.split()[0] for line in lines) == ["crop_sise", "eval.crop_size", "flip"]


def test_a_large_value_is_not_shown_whole() -> None:
    assert len(explained({"crop_size": np.zeros((99, 99)), "interpolation": "x" * 999})) < 300


def test_the_keys_of_a_larger_spec_are_found_too() -> None:
    with pytest.raises(ValidationError) as raised:
        Recipe.model_validate({"name": "a", "about": "b", "epochs": 1, "data": {"mix": {"kind": "cutmix", "alpha": 0}}})
    line = explain(raised.value, Recipe, "a", "a recipe key")
    assert line == "data.mix.alpha is 0 (a): it should be greater than 0"
    with pytest.raises(ValidationError) as raised:
        Recipe.model_validate({"name": "a", "schedule": {"kind": "cosine", "milestones": [3]}})
    assert explain(raised.value, Recipe, "a", "a recipe key").splitlines() == [
        "about is missing (a): it has no default",
        "epochs is missing (a): it has no default",
        "schedule.milestones has no meaning where schedule.kind is cosine (a): leave it out, or choose kind step",
    ]
