"""Documents that cannot drift: generated tables, and links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.pages.documents import DOCUMENTS, RESULTS, rendered
from fastbot.ablation.records import Ablation
from fastbot.ablation.report import markdown

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_figures_are_those_of_the_committed_results(file: Path) -> None:
    page = file.read_text()
    assert rendered(page, RESULTS) == page, "run `fastbot bench report`"
    assert page.count("<!-- table:") + page.count("<!-- performance -->") == page.count("<!-- end -->")
    assert page.count("<!-- table:") == page.count("| case | threads |")


def test_the_ablation_in_the_results_is_the_committed_one() -> None:
    ablation = Ablation.model_validate_json((ROOT / "docs" / "results" / "fashion-table6.json").read_text())
    rows = [line for line in markdown(ablation).splitlines() if line.startswith("| ")]
    assert len(rows) == 8
    assert "\n".join(rows) in (ROOT / "docs" / "results.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_module_of_the_architecture_page_exists() -> None:
    """A module may move; the page that says where a line belongs must follow."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text[text.index("| folder | file |") : text.index("## The plan")]
    package, missing = "", []
    for line in table.splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) < 3:
            continue
        package = cells[0].strip("`/") or package
        for name in re.findall(r"`([\w/]+)`", cells[1]):
            path = ROOT / package / name.rstrip("/")
            if not (path.is_dir() or path.with_suffix(".py").is_file()):
                missing.append(f"{package}/{name}")
    assert not missing
