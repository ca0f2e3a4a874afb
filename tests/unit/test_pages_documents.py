"""The figures in documents, made from committed results."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_results import (
    augmentations,
    conversions,
    line,
    loaders,
    memories,
    result,
    trainings,
    write,
)

from benchmarks.lines import Line
from benchmarks.measure import Result
from benchmarks.pages import documents
from benchmarks.pages.headlines import headlines
from benchmarks.pages.report import command
from benchmarks.pages.tables import table, table_of
from fastbot.errors import RunError

PAGE = "# Figures\n<!-- table: cpu/loader.jsonl -->\nold\n<!-- end -->\ntext\n<!-- performance -->\n<!-- end -->\nend\n"
SETTINGS = {"size": 224, "model": "resnet50"}


def lines(results: list[Result], device: str = "a processor", /, **conditions: object) -> list[Line]:
    return [line(found, device=device, **conditions) for found in results]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Committed results of a CPU."""
    folder = tmp_path / "results"
    write(folder / "cpu" / "loader.jsonl", *lines(loaders(), **SETTINGS))
    write(folder / "cpu" / "train.jsonl", *lines(trainings(), **SETTINGS))
    return folder


def quoted(results: list[Result], **conditions: object) -> list[tuple[str, str]]:
    return [(found.figure, found.words) for found in headlines(lines(results, **SETTINGS | conditions))]


def test_a_loader_is_quoted_beside_each_stock_peer_with_the_most_threads() -> None:
    found = quoted(loaders())
    assert [words.partition(":")[0] for _, words in found] == [
        "torchvision DataLoader",
        "timm's loader",
        "stock DALI CPU",
        "stock FFCV",
        "webdataset",
        "spdl",
        "litdata",
    ]
    assert found[0] == (f"{1153 / 398:.2f} ×", "torchvision DataLoader: loading with turbo, 224 px, 2 threads")


def test_pictures_of_one_size_alone_are_not_quoted() -> None:
    of_a_bin = result("fastbot turbo, 50 kB", "stock FFCV, 50 kB")
    assert quoted([of_a_bin]) == []


def test_a_training_the_stage_and_conversions_are_quoted() -> None:
    assert quoted(trainings()) == [("0.96 ×", "the slower of loader and step: training resnet50 end to end, 224 px")]
    assert [figure for figure, _ in quoted(augmentations())] == [f"{3120 / 210:.2f} ×"]
    assert [figure for figure, _ in quoted(conversions())] == [f"{1490 / 2363:.2f} ×", f"{820 / 310:.2f} ×"]
    assert quoted(memories()) == []


def test_a_noisy_ratio_is_quoted_as_one() -> None:
    (found,) = quoted([result("convert", "check alone", ratios=(1.0, 1.0, 1.3), benchmark="convert")])
    assert found == ("1.00 ×", "the check of the pictures alone: converting (noisy: 1.00 to 1.30)")


def test_documents_get_their_tables_and_figures(results: Path) -> None:
    new = documents.rendered(PAGE, results)
    assert new.startswith("# Figures\n<!-- table: cpu/loader.jsonl -->\na processor, 2 cores, Python 3.11.7")
    assert "| fastbot turbo, 1 thread | 1 | 1,153 | 5% | 2.90 | torchvision DataLoader, 1 thread |" in new
    assert (
        "a processor, 2 cores, at abc1234 ([all of it](docs/performance.md), [its JSON](benchmarks/results/cpu)):"
        in new
    )
    assert "- **2.90 ×** torchvision DataLoader: loading with turbo" in new
    assert "old" not in new
    assert new.endswith("On a GPU: not measured yet.\n<!-- end -->\nend\n")
    assert documents.rendered(new, results) == new


def test_a_gpu_that_was_measured_is_not_called_unmeasured(results: Path) -> None:
    write(results / "gpu" / "train.jsonl", *lines(trainings(), "NVIDIA H100", **SETTINGS))
    new = documents.rendered(PAGE, results)
    assert "not measured yet" not in new
    assert "benchmarks/results/gpu" in new


def test_the_head_of_a_table_names_all_that_its_lines_were_measured_by(results: Path) -> None:
    ours = [line(result(name), commit=name, command=f"bench {name}") for name in ("first", "second", "second")]
    head = table(write(results / "cpu" / "two.jsonl", *ours)).splitlines()[0]
    assert head == (
        "a processor, 2 cores, Python 3.11.7, torch 2.14.1; commit first and second; `bench first` and `bench second`"
    )


def test_a_missing_file_of_results_is_named(results: Path) -> None:
    with pytest.raises(RunError, match=r"cpu/step\.jsonl: cannot be read"):
        documents.rendered(PAGE.replace("loader", "step"), results)


@pytest.fixture
def document(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only document, not yet rendered."""
    file = tmp_path / "performance.md"
    file.write_text(PAGE)
    monkeypatch.setattr(documents, "DOCUMENTS", (file,))
    monkeypatch.setattr(documents, "RESULTS", results)
    return file


def test_checking_changes_nothing_and_fails_if_out_of_date(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match=r"performance\.md: out of date\. Run `fastbot bench report`"):
        command(check=True)
    assert document.read_text() == PAGE
    command()
    assert capsys.readouterr().out == f"{document} made anew\n"
    assert document.read_text() == documents.rendered(PAGE, documents.RESULTS)
    command(check=True)
    command()
    assert capsys.readouterr().out == ""


def test_without_a_checkout_files_are_asked_for(document: Path) -> None:
    document.unlink()
    with pytest.raises(RunError, match=r"only a checkout of fastbot has documents\. Give FILES"):
        command()


def test_a_bar_in_a_name_does_not_end_its_cell() -> None:
    row = table_of([line(result("a | b"))]).splitlines()[-1]
    assert row.startswith("| a \\| b |")
