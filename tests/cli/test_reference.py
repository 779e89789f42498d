"""docs/cli.md is written from the command tree and is current."""

from __future__ import annotations

from pathlib import Path

from adapterbank.cli.reference import markdown

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == markdown(), "run: python -m adapterbank.cli.reference > docs/cli.md"


def test_links_lead_somewhere():
    page = markdown()
    headings = {line.removeprefix("### ").lower() for line in page.splitlines() if line.startswith("### ")}
    links = {part.partition(")")[0] for part in page.split("](#")[1:]}
    assert links and links <= headings
