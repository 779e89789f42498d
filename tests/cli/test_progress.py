"""Progress: a bar on stderr where a person watches, nothing elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

from adapterbank.cli.progress import progress
from adapterbank.cli.session import Session


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch):
    watched = Terminal()
    monkeypatch.setattr(sys, "stderr", watched)
    with progress(Session(), "fit") as step:
        assert step is not None
        step(1, 4)
        step(4, 4)
    assert "fit" in watched.getvalue() and "4/4" in watched.getvalue()


@pytest.mark.parametrize(("stream", "json"), [(io.StringIO, False), (Terminal, True)])
def test_elsewhere_there_is_none(monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], json: bool):
    unwatched = stream()
    monkeypatch.setattr(sys, "stderr", unwatched)
    with progress(Session(json=json), "fit") as step:
        assert step is None
    assert unwatched.getvalue() == ""
