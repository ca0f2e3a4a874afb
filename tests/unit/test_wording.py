from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from datasets_tools.wording import counted, rule


def _even(value: int) -> int:
    if value % 2:
        raise ValueError(f"{value} is odd")
    return value


@pytest.mark.parametrize(
    ("value", "said"),
    [(-2, "it should be greater than 0"), (3, "3 is odd"), ([], "it should be a valid integer")],
)
def test_rules_are_told_without_pydantics_habits(value: object, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Annotated[int, Field(gt=0), AfterValidator(_even)]).validate_python(value)
    assert rule(caught.value.errors()[0]["msg"]) == said


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 pictures"), (1, "1 picture"), (2, "2 pictures"), (12345, "12,345 pictures")]
)
def test_one_is_singular(number: int, said: str) -> None:
    assert counted(number, "picture") == said


def test_a_plural_may_be_given() -> None:
    assert [counted(number, "class", "classes") for number in (1, 2)] == ["1 class", "2 classes"]
