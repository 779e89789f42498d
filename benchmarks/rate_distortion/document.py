"""Tables into a document, each between two marks, so that the text around them stays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def fill(path: Path, tables: Mapping[str, str]) -> list[str]:
    """Replace what stands between ``<!-- NAME -->`` and ``<!-- end NAME -->`` by the table; return the names with no place."""
    text = path.read_text(encoding="utf-8")
    missing = []
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        if begin not in text or end not in text:
            missing.append(name)
            continue
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}"
    path.write_text(text, encoding="utf-8")
    return missing
