"""Documents that cannot drift: generated tables, and links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.pages.tables import PAGE, rendered

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_the_tables_are_those_of_the_committed_results() -> None:
    page = PAGE.read_text()
    assert rendered(page) == page, "run `python -m benchmarks report`"
    assert page.count("<!-- table:") == page.count("<!-- end -->") == page.count("| case | threads |")


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
