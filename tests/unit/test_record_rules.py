from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from datasets_tools.store.index import RECORD
from datasets_tools.store.record_rules import record_faults

LIMITS = {"keys_size": 20, "data_start": 100, "data_end": 5000, "num_classes": 3}


def records(**changes: Any) -> np.ndarray[Any, Any]:
    """Two good records, the second changed; it is raw: 10 x 20 pixels."""
    table = np.zeros(2, dtype=RECORD)
    table["key_start"], table["key_size"] = [0, 10], 10
    table["offset"], table["size"] = [100, 4400], [4300, 600]
    table["height"], table["width"], table["label"] = 10, 20, [0, 2]
    table["stored_format"], table["components"], table["subsampling"] = [0, 1], [1, 3], [0, 255]
    for name, value in changes.items():
        table[name][1] = value
    return table


def broken(table: np.ndarray[Any, Any]) -> dict[str, list[bool]]:
    return {reason: mask.tolist() for reason, mask in record_faults(table, **LIMITS) if mask.any()}


def test_records_up_to_every_limit_are_good() -> None:
    assert broken(records()) == {}
    assert broken(records(orientation=8, stored_format=0, offset=4999, size=1, key_start=20, key_size=0)) == {}
    assert broken(np.zeros(0, dtype=RECORD)) == {}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"offset": 99}, "its bytes lie outside"),
        ({"offset": 4401}, "its bytes lie outside"),
        ({"offset": 2**64 - 300}, "its bytes lie outside"),  # offset + size wraps around to 300
        ({"size": 2**64 - 4000, "stored_format": 0}, "its bytes lie outside"),
        ({"size": 0, "stored_format": 0}, "its bytes lie outside"),
        ({"height": 0, "size": 0}, "its height or width is 0"),
        ({"width": 0, "stored_format": 0}, "its height or width is 0"),
        ({"label": 3}, "its label is not in 0 to 2"),
        ({"label": -1}, "its label is not in 0 to 2"),
        ({"stored_format": 2}, "its format is unknown"),
        ({"size": 599}, "its size is not height x width x 3"),
        ({"height": 65_535, "width": 65_535}, "its size is not height x width x 3"),
        ({"key_start": 21, "key_size": 0}, "its key lies outside"),
        ({"key_start": 11}, "its key lies outside"),
        ({"key_start": 2**64 - 5}, "its key lies outside"),
        ({"components": 4}, "its number of components"),
        ({"subsampling": 7}, "its subsampling"),
        ({"orientation": 9}, "its orientation"),
    ],
)
def test_a_record_that_breaks_a_rule_is_marked_alone(changes: dict[str, Any], reason: str) -> None:
    found = broken(records(**changes))
    assert any(text.startswith(reason) for text in found)
    assert all(mask == [False, True] for mask in found.values())


def test_a_sample_larger_than_a_page_may_be_is_marked() -> None:
    table = records(stored_format=0, size=2**31 + 1)
    limits = LIMITS | {"data_end": 2**40}
    assert [reason for reason, mask in record_faults(table, **limits) if mask.any()] == [
        "it is larger than the format allows"
    ]


def test_where_no_sample_can_lie_every_one_is_outside() -> None:
    """As in a file that was cut to less than its tables."""
    reason, mask = next(record_faults(records(), **(LIMITS | {"data_end": -50})))
    assert (reason.split(" the ")[0], mask.tolist()) == ("its bytes lie outside", [True, True])
