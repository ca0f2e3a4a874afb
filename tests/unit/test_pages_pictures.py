"""The drawings, read back as XML: a bar's length is its figure."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest
from benchmark_results import augmentations, line, loaders, result, scalings, simulations, startups, steps, trainings

from benchmarks.lines import Line
from benchmarks.measure import Result
from benchmarks.pages import svg
from benchmarks.pages.groups import groups, is_ours
from benchmarks.pages.pictures import pictures
from benchmarks.pages.svg import Picture


def lines(results: list[Result]) -> list[Line]:
    return [line(found) for found in results]


def drawn(benchmark: str, results: list[Result], title: str) -> Picture:
    return next(picture for picture in pictures(benchmark, lines(results))[0] if picture.title.startswith(title))


def boxes(picture: Picture, class_: str) -> Iterator[tuple[float, float]]:
    """Yield the left edge and the width of all boxes of a class."""
    for found in ET.fromstring(picture.svg).iter("rect"):
        if found.attrib["class"] == class_:
            yield float(found.attrib["x"].rstrip("%")), float(found.attrib["width"].rstrip("%"))


def words(picture: Picture) -> list[str]:
    return ["".join(found.itertext()) for found in ET.fromstring(picture.svg).iter("text")]


def ends(picture: Picture, class_: str) -> list[float]:
    return [float(found.attrib["x1"].rstrip("%")) for found in _lines(picture, class_)]


def _lines(picture: Picture, class_: str) -> list[ET.Element]:
    return [found for found in ET.fromstring(picture.svg).iter("line") if found.attrib["class"] == class_]


def test_bars_are_as_long_as_their_figures_and_the_best_is_first() -> None:
    picture = drawn("augment", augmentations(), "hsv")
    assert words(picture)[::2] == ["fastbot float32", "torchvision v2", "kornia"]
    ((_, ours),) = boxes(picture, "bar ours")
    assert [width / ours for _, width in boxes(picture, "bar")] == pytest.approx([210 / 3120, 165 / 3120], abs=1e-3)
    assert "more is better" in picture.caption


def test_a_limit_beyond_all_scale_is_named_not_drawn() -> None:
    found = [
        result("fastbot", "theirs", (10.0,), (2.0,)),
        result("fastbot", "copy", (10.0,), (0.01,)),
        result("theirs", "theirs", (5.0,), (1.0,)),
        result("copy", "copy", (1000.0,), (1.0,)),
    ]
    picture = drawn("augment", found, "Throughput")
    assert words(picture)[::2] == ["fastbot", "theirs"]
    assert "Beyond the scale: copy (1,000)." in picture.caption


def test_whiskers_reach_from_the_lowest_to_the_highest_round() -> None:
    found = [result("ours", samples=(1.0, 2.0, 4.0)), result("theirs", samples=(1.0, 1.0, 1.0))]
    picture = drawn("loader", found, "Throughput")
    assert {25.0, 100.0} <= {*ends(picture, "whisker")}


def test_where_less_is_better_the_least_is_first() -> None:
    picture = drawn("startup", startups(), "first step")
    assert words(picture)[1::2] == ["5.2", "7"]
    assert "less is better" in picture.caption


def test_a_case_stands_beside_those_of_its_own_settings() -> None:
    found = loaders()
    across = result("fastbot turbo, 2 threads", "fastbot turbo, 1 thread", unit="images/s per core", threads=2)
    assert [(group.title, len(group.cases)) for group in groups(lines([*found, across]))] == [
        ("1 thread", 12),
        ("2 threads", 12),
    ]


def test_cases_that_are_alone_share_a_picture() -> None:
    found = [result("a", "a"), result("b", "b"), result("c", "c", unit="s")]
    assert [(group.unit, len(group.cases)) for group in groups(lines(found))] == [("images/s", 2), ("s", 1)]


@pytest.mark.parametrize(
    ("case", "peer", "ours"),
    [
        ("fastbot turbo", "stock FFCV", True),
        ("fastbot, then torchvision", "torchvision v2", True),
        ("convert", "check alone", True),
        ("check alone", "check alone", False),
        ("stock DALI CPU, fancy upsampling", "stock DALI CPU", False),
        ("hsv, torchvision v2 per batch", "hsv, torchvision v2", False),
        ("cp, sync", "check alone", False),
        ("hsv, DALI", "hsv, torchvision v2", False),
        ("full, OpenCV", "full, Pillow", False),
    ],
)
def test_whose_a_case_is(case: str, peer: str, ours: bool) -> None:
    assert is_ours(line(result(case, peer))) is ours


def test_a_waterfalls_parts_begin_where_the_last_has_ended() -> None:
    picture = drawn("startup", startups(), "Where the time goes: first step, fastbot")
    edges = [*boxes(picture, "bar ours"), *boxes(picture, "bar rest")]
    for (left, width), (following, _) in itertools.pairwise(edges):
        assert left + width == pytest.approx(following, abs=0.02)
    assert edges[-1][0] + edges[-1][1] == pytest.approx(100, abs=0.02)
    assert words(picture)[-4:] == ["the rest", "0.1 s, 2%", "the whole", "5.2 s"]


def test_a_start_is_drawn_once_up_to_its_last_moment() -> None:
    titles = [picture.title for picture in pictures("startup", lines(startups()))[0]]
    assert titles == [
        *("first batch", "first step", "Where the time goes: first step, fastbot"),
        "Where the time goes: first step, torchvision DataLoader",
    ]


def test_more_waterfalls_than_anybody_reads_are_not_drawn_and_said() -> None:
    found = [result(f"fastbot {count}", benchmark="step", parts_ms={"forward": 1.0}) for count in range(9)]
    waterfalls = [picture for picture in pictures("step", lines(found))[0] if picture.title.startswith("Where")]
    assert len(waterfalls) == 6
    assert waterfalls[-1].caption.endswith("3 more are in the JSON lines alone.")


def test_parts_that_take_more_than_the_whole_are_said_to() -> None:
    parts = {"forward": 2.0, "backward": 3.0}
    found = [result("fastbot", benchmark="step", step_ms=4.0, parts_ms=parts)]
    picture = drawn("step", found, "Where")
    assert "take 1 ms more than the whole" in picture.caption
    assert not list(boxes(picture, "bar rest"))


def test_floors_stand_where_their_times_are() -> None:
    picture = drawn("step", steps(), "Steps and their floor: resnet50")
    longest = 32e3 / (0.8 * 31.0)
    first = 32e3 / 31.0
    assert ends(picture, "mark bytes_unfused_ms")[1] == pytest.approx(100 * 0.42 * first / longest, abs=0.6)
    assert "61%" in words(picture)[4]


def test_a_scaling_curve_stands_below_the_ideal() -> None:
    picture = drawn("scaling", scalings((1, 2, 4)), "Speed-up")
    assert [word for word in words(picture) if "×" in word] == ["1.00×", "1.94×", "3.76×"]
    heights = [float(found.attrib["cy"]) for found in ET.fromstring(picture.svg).iter("circle")]
    assert heights == sorted(heights, reverse=True)
    (ideal,) = _lines(picture, "ideal")
    assert float(ideal.attrib["y2"]) < heights[-1]
    assert len(_lines(picture, "curve")) == 2


def test_each_number_of_ranks_is_one_point_of_a_batch_size() -> None:
    """One rank is measured with the cores of each group; other batch sizes are another curve."""
    found = [
        line(result(f"{ranks} ranks, {each} each", ranks=ranks, threads=each, efficiency=1.0), batch_size=batch)
        for batch in (16, 64)
        for ranks, each in ((1, 2), (1, 1), (2, 1))
    ]
    curves = [picture for picture in pictures("scaling", found)[0] if picture.title == "Speed-up"]
    assert [[word for word in words(picture) if "×" in word] for picture in curves] == [["1.00×", "2.00×"]] * 2


def test_many_ranks_are_on_logarithmic_axes() -> None:
    picture = drawn("scaling", scalings((1, 8, 64)), "Speed-up")
    places = [float(found.attrib["cx"].rstrip("%")) for found in ET.fromstring(picture.svg).iter("circle")]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.02)
    assert "Both axes are logarithmic" in picture.caption


def test_what_a_model_says_is_never_drawn_as_measured() -> None:
    (picture,), _ = pictures("scaling-model", lines(simulations()))
    assert "Simulated, not measured" in picture.caption
    assert (len(_lines(picture, "model")), len(_lines(picture, "curve"))) == (7, 0)


def test_a_share_is_of_the_whole_width() -> None:
    picture = drawn("train", trainings(), "Waiting for data")
    ((_, width),) = boxes(picture, "bar ours")
    assert width == pytest.approx(3.1)


@pytest.mark.parametrize(
    ("benchmark", "missing"),
    [
        ("step", ["`parts_ms`", "`floor` and `step_ms`"]),
        ("train", ["`data_wait_share`"]),
        ("scaling", ["`ranks` and `efficiency`", "`communication_share`"]),
        ("startup", ["`parts_s`"]),
        ("another", []),
    ],
)
@pytest.mark.parametrize("details", [{}, {"parts_ms": "no", "floor": {}, "ranks": True, "data_wait_share": -1.0}])
def test_what_cannot_be_drawn_is_said(benchmark: str, missing: list[str], details: dict[str, object]) -> None:
    found, left_out = pictures(benchmark, lines([result("ours", benchmark=benchmark, **details)]))
    assert [picture.title for picture in found] == ["Throughput"]  # the bars are there all the same
    assert len(left_out) == len(missing)
    assert all(key in said for key, said in zip(missing, left_out, strict=True))


def test_names_are_escaped() -> None:
    hostile = '<script>alert("x")</script> & co.'
    picture = drawn("loader", [result(hostile), result("theirs")], "Throughput")
    assert hostile in " ".join(words(picture))
    assert "<script" not in picture.svg


def test_long_labels_are_wrapped() -> None:
    content, bottom = svg.label("a word and another " * 4, "12,345", 0)
    parts = [found.text or "" for found in ET.fromstring(f"<svg>{content}</svg>").iter("text")]
    assert max(map(len, parts)) <= 42 - len("12,345")
    assert bottom == svg.LINE_PX * (len(parts) - 1)
