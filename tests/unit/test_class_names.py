from __future__ import annotations

import pytest

from datasets_tools.errors import StoreError
from datasets_tools.exchange.class_names import find_classes, wordnet_id

NAMES = (
    "n01440764 tench, Tinca tinca",
    "n01443537 goldfish, Carassius auratus",
    "n02012849 crane",
    "n03126707 crane",
    "n02869837 bonnet, poke bonnet",
    "5",
    "n02071294",
)


@pytest.mark.parametrize(
    ("asked", "labels"),
    [
        (["n01443537", "n01440764"], (0, 1)),
        (["n01440764 tench, Tinca tinca"], (0,)),
        (["n01440764 tench", " Tinca tinca"], (0,)),
        (["n02869837 another wording"], (4,)),
        (["GOLDFISH", "Poke Bonnet"], (1, 4)),
        (["3", "0"], (0, 3)),
        (["5"], (5,)),
        (["n02071294"], (6,)),
        ([], ()),
    ],
)
def test_classes_go_by_many_names(asked: list[str], labels: tuple[int, ...]) -> None:
    assert find_classes(asked, NAMES) == labels


def test_a_name_beats_a_number() -> None:
    assert find_classes(["1", "2"], ("0", "1", "10", "2")) == (1, 3)


def test_every_wrong_name_is_told_with_what_is_near() -> None:
    with pytest.raises(StoreError) as caught:
        find_classes(["gold fish", "crane", "7", "n99999999", "tench"], NAMES)
    first, *lines = str(caught.value).splitlines()
    assert first == "4 of the named classes cannot be taken:"
    assert lines[0] == "  'gold fish' is not a class; did you mean 'n01443537 goldfish, Carassius auratus'"
    assert lines[1].startswith("  'crane' names classes 2 (n02012849 crane), 3 (n03126707 crane): use a number")
    assert lines[2] == "  '7' is not a class; there are 7, from 'n01440764 tench, Tinca tinca' to 'n02071294'"
    assert len(lines) == 4


def test_thousands_of_wrong_names_are_counted() -> None:
    with pytest.raises(StoreError) as caught:
        find_classes([f"no such {k}" for k in range(500)], NAMES)
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert lines[-1] == "  ... and 480 more"


@pytest.mark.parametrize(
    ("name", "found"),
    [("n01440764 tench", "n01440764"), ("n01440764", "n01440764"), ("n014407641", None), ("tench n01440764", None)],
)
def test_wordnet_ids_stand_at_the_start(name: str, found: str | None) -> None:
    assert wordnet_id(name) == found
