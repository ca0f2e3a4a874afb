"""The report as HTML and as Markdown, and the command that writes both."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from benchmark_results import CORPUS, GPU_BUSY, line, result, write, write_all
from in_process import error

from benchmarks.pages import html, markdown
from benchmarks.pages.report import write_report
from benchmarks.suite import app
from fastbot.cli import main
from fastbot.errors import RunError

# Elements that have no end.
_VOID = {"meta", "br", "line", "rect", "circle"}


class Outline(HTMLParser):
    """What is in a page: elements with their attributes, and the text outside of scripts; every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style"):
            self.text += f"{data}\n"

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of many rungs, and their report."""
    out = tmp_path_factory.mktemp("bench")
    write_report([write_all(out)], out)
    return out


def test_the_page_needs_nothing_else(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert len(page.encode()) < 2_000_000
    outline = Outline(page)
    attributes = [value or "" for _, found in outline.elements for name, value in found.items() if name in _LINKS]
    assert all(value.startswith("#") for value in attributes)
    assert not outline.named("link")
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", page)
    assert "default-src 'none'" in str(outline.named("meta"))


_LINKS = ("src", "href", "srcset", "data", "action")


def test_every_benchmark_has_a_section_with_pictures_and_a_table(folder: Path) -> None:
    outline = Outline((folder / "report.html").read_text())
    sections = [found["id"] for found in outline.named("section")]
    assert sections == [
        "train",
        "loader",
        "augment",
        "step",
        "scaling",
        "scaling-model",
        "startup",
        "memory",
        "convert",
        "something-new",
    ]
    assert [found["href"] for found in outline.named("a")] == [f"#{name}" for name in sections]
    assert len(outline.named("table")) == len(sections)
    drawings = outline.named("svg")
    assert len(drawings) == len(outline.named("figure")) >= 15
    assert all(found["role"] == "img" for found in drawings)
    assert outline.text.count("less is better") >= 4


def test_names_in_the_results_are_only_text(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert "<b>ours</b>" not in page
    assert "<i>" not in page
    assert "<b>ours</b> & co." in Outline(page).text


def test_conditions_are_told() -> None:
    known = line(result("ours", noisy=1), corpus=CORPUS, batch_size=64, machine=GPU_BUSY, command="bench loader --x")
    for words in (Outline(html.page([known])).text, markdown.page([known])):
        assert "a processor" in words
        assert "abc1234" in words
        assert "Python 3.11.7, torch 2.14.1" in words
        assert "batch_size 64" in words
        assert "972b8ea31691: 1,000 pictures, 470 x 388 px, 111.3 kB on average" in words
        assert "bench loader --x" in words
        assert "0.31 cores busy" in words
        assert "GPU 0 1980 MHz (memory 2619), 612.4 W, 58 °C, throttling 0x0" in words


def test_spread_and_ratio_are_told_and_noise_is_marked() -> None:
    rough = result("rough", samples=(1.0, 1.2, 2.0), ratios=(3.0, 3.0, 3.1))
    calm = result("calm", samples=(1.0, 1.0, 1.05), ratios=(2.0, 2.0, 2.0))
    text = " ".join(Outline(html.page([line(rough), line(calm)])).text.split())
    assert "rough 1.2 83% noisy 3.00 × theirs ( 3% )" in text.replace("(3%)", "( 3% )")
    assert "calm 1 5% 2.00 × theirs" in text
    assert "2 cases, 1 of them noisy" in text
    assert "| rough |  | 1.2 | 83% (noisy) | 3.00 | theirs |" in markdown.page([line(rough), line(calm)])


def test_settings_that_differ_get_a_column() -> None:
    page = html.page([line(result("ours", batch_size=count)) for count in (64, 256)])
    assert ">batch size</th>" in page
    assert re.findall(r"<td>(64|256)</td>", page) == ["64", "256"]


def test_a_file_with_a_damaged_line_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "x.jsonl", line(result("ours")))
    file.write_text(file.read_text() + "{}\n")
    with pytest.raises(RunError, match=r"x\.jsonl, line 2: is no result of a benchmark"):
        write_report([file], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def run(code: int, *arguments: object) -> None:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments], app, "python -m benchmarks")
    assert left.value.code == code


def test_the_command_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "x.jsonl", line(result("ours")))
    run(0, "report", file, "--out", tmp_path / "out")
    said = capsys.readouterr().out.split()
    assert said == [str(tmp_path / "out" / name) for name in ("report.md", "report.html")]
    assert all(Path(written).stat().st_size > 500 for written in said)


@pytest.mark.parametrize("options", [("x.jsonl", "--check"), ("--out", "somewhere")])
def test_options_that_do_not_fit_are_wrong_usage(options: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    run(2, "report", *options)
    assert f"Invalid value for {options[-1] if options[0] == 'x.jsonl' else '--out'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "arguments"),
    [(1, ("compare", "none.jsonl", "none.jsonl")), (2, ("compare", "one.jsonl")), (2, ("nonsense",))],
)
def test_both_command_lines_end_alike(
    code: int, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    of_fastbot = error(capsys, code, "bench", *arguments)
    run(code, *arguments)
    of_module = capsys.readouterr().err
    assert [said for said in of_module.splitlines() if said.startswith("error: ")] == [
        said for said in of_fastbot.splitlines() if said.startswith("error: ")
    ]
    assert "Traceback" not in of_module


def test_comparing_prints_a_table_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slower = [0.5 * value for value in (1.0, 1.01, 0.99, 1.0, 1.0)]
    before = write(tmp_path / "before.jsonl", line(result("ours [fast]")))
    after = write(tmp_path / "after.jsonl", line(result("ours [fast]", samples=slower, ratios=slower)))
    run(0, "compare", before, after)
    assert re.search(r"ours \[fast\] .* theirs .* 0\.50 .* worse", capsys.readouterr().out)
    run(1, "compare", "--check", before, after)
    assert (
        "error: 1 of 1 ratios are worse:\n  loader: ours [fast], beside theirs: 1.00 before" in capsys.readouterr().err
    )
    run(0, "compare", "--check", "--tolerance", "0.6", before, after)
    assert "no ratio of 1 is worse beyond noise and by more than 60%" in capsys.readouterr().out
