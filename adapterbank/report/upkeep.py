"""Pictures of the bank itself."""

from __future__ import annotations

from rich.console import Group, RenderableType

from adapterbank.report.grid import Column, Row, grid, line
from adapterbank.report.words import short, size

_CHECKS = (
    Column("check", "name", style="cyan"),
    Column("status", "status"),
    Column("what", "message"),
    Column("do", "hint"),
)
_PROBLEMS = (Column("code", "code", style="red"), Column("where", "where"), Column("what", "message"))
_OBJECTS = (Column("object", "digest", short), Column("size", "bytes", size, right=True))


def bank(document: Row) -> RenderableType:
    """Where the bank is."""
    return line(f"{'created' if document['created'] else 'already there:'} {document['bank']}")


def doctor(document: Row) -> RenderableType:
    """A row per check."""
    return Group(line(document["bank"], "bold"), grid(_CHECKS, document["checks"], "no checks"))


def upgraded(document: Row) -> RenderableType:
    """Revisions before and after."""
    if document["before"] == document["after"]:
        return line(f"schema {document['after']}: nothing to do")
    backup = f", backup in {document['backup']}" if document["backup"] else ""
    return line(f"schema {document['before']} -> {document['after']}{backup}")


def verification(document: Row) -> RenderableType:
    """What was checked, and every finding."""
    count = len(document["problems"])
    said = f"{document['objects']} objects ({size(document['bytes'])}) and {document['rows']} rows checked: {count} problem(s)"
    return Group(*([grid(_PROBLEMS, document["problems"], "")] if count else []), line(said, "bold red" if count else "bold"))


def removal(document: Row) -> RenderableType:
    """What was, or would be, removed."""
    verb = "would remove" if document["dry_run"] else "removed"
    return line(f"{verb} {', '.join(document['refs'])}: {document['objects']} object(s), {size(document['bytes'])}")


def garbage(document: Row) -> RenderableType:
    """What was, or would be, collected."""
    verb = "would delete" if document["dry_run"] else "deleted"
    said = f"{verb} {len(document['objects'])} object(s), {document['staging']} left-over file(s), {size(document['bytes'])}"
    return Group(*([grid(_OBJECTS, document["objects"], "")] if document["objects"] else []), line(said, "bold"))
