"""This process and those that it started, and whether any of them still runs: told from /proc, by number and start."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
_STATE, _PARENT, _START = 0, 1, 19  # fields of /proc/PID/stat after the parenthesis that closes the name


def family() -> dict[str, Any]:
    """The calling process and its descendants as plain JSON: ``[number, start]`` of each, and where these numbers mean
    anything (this boot, this namespace of processes)."""
    running = {pid: (parent, start) for pid, parent, start in _running()}
    members = {os.getpid()}
    while grown := {pid for pid, (parent, _) in running.items() if parent in members} - members:
        members |= grown
    return {"where": _where(), "processes": [[pid, running[pid][1]] for pid in sorted(members & running.keys())]}


def any_lives(about: Mapping[str, Any]) -> bool:
    """Whether one of the processes of :func:`family` still runs. Without /proc, or from another namespace, the answer is no."""
    if about.get("where") != _where():
        return False
    running = {(pid, start) for pid, _, start in _running()}
    return any((pid, start) in running for pid, start in about.get("processes", ()))


def _running() -> Iterator[tuple[int, int, int]]:
    """Number, parent and start (in ticks since boot) of every process that is not a zombie."""
    for folder in _PROC.glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if fields and fields[_STATE] not in "ZX":
            yield int(folder.name), int(fields[_PARENT]), int(fields[_START])


def _where() -> list[str]:
    try:
        return [(_PROC / "sys/kernel/random/boot_id").read_text().strip(), str((_PROC / "self/ns/pid").readlink())]
    except OSError:
        return []
