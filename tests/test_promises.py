"""docs/promises.md claims only what a test shows: every test that it names exists, and every promise names one."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
DOCUMENT = (TESTS.parent / "docs" / "promises.md").read_text(encoding="utf-8")
ROWS = [line.strip("| ").split(" | ") for line in DOCUMENT.splitlines() if line.startswith("| ")][1:]


def test_every_promise_names_a_test_that_exists() -> None:
    assert len(ROWS) > 10
    for promise, _, shown_by in ROWS:
        file = None
        for named in re.findall(r"`([^`]+)`", shown_by):
            file, _, test = named.partition(": ") if ".py" in named else (file, "", named)
            assert file is not None, promise
            assert not test or f"def {test}(" in (TESTS / file).read_text(encoding="utf-8"), named
        assert file is not None, promise
