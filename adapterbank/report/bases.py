"""Pictures of bases, their members and their sizes."""

from __future__ import annotations

from rich.console import Group, RenderableType

from adapterbank.report.adapters import FORMS
from adapterbank.report.grid import Column, Row, facts, grid, line, titled
from adapterbank.report.words import error, share, short, size, when

_BASES = (
    Column("basis", "ref", style="cyan", whole=True),
    Column("n", "members", right=True),
    Column("p", "components", right=True),
    Column("gauge", "gauge", whole=True),
    Column("dtype", "dtype", whole=True),
    Column("own size", "bytes", size, right=True),
    Column("mean error", "error_mean", error, right=True),
    Column("worst", "error_worst", error, right=True),
    Column("errors", "error_kind", whole=True),
)
_FACTS = (
    Column("basis", "ref", style="cyan"),
    Column("base model", "base_model"),
    Column("codec", "codec"),
    Column("gauge", "gauge"),
    Column("p", "components"),
    Column("dtype", "dtype"),
    Column("own size", "bytes", size),
    Column("mean error", "error_mean", error),
    Column("worst error", "error_worst", error),
    Column("errors are", "error_kind"),
    Column("created", "created", when),
    Column("object", "object", short),
)
_OPTIONS = (
    Column("p", "components", right=True),
    Column("size", "bytes", size, right=True),
    Column("of originals", "ratio", share, right=True),
    Column("energy", "energy", share, right=True),
    Column("mean error", "error_mean", error, right=True),
    Column("worst error", "error_worst", error, right=True),
)
_CODED = (
    Column("version", "version", style="cyan", whole=True),
    Column("size", "bytes", size, right=True),
    Column("differences to", "reference", style="cyan"),
)
_MODULES = (Column("module", "module"), Column("error", "error", error, right=True))


def bases(document: Row) -> RenderableType:
    """A row per basis."""
    return grid(_BASES, document["bases"], "no bases")


def basis(document: Row) -> RenderableType:
    """One basis and its members."""
    return Group(facts(_FACTS, document), *titled("Members", forms(document)))


def basis_modules(document: Row) -> RenderableType:
    """One basis and, for each member, the error of every module."""
    parts: list[RenderableType] = [basis(document)]
    for form in document["forms"]:
        rows = [{"module": name, "error": value} for name, value in form["module_errors"].items()]
        rows += [{"module": f"{name} (absent)", "error": None} for name in form["absent"]]
        parts += titled(form["version"], grid(_MODULES, rows, "no modules"))
    return Group(*parts)


def forms(document: Row) -> RenderableType:
    """A row per stored form."""
    return grid(FORMS, document["forms"], "no members")


def options(document: Row) -> RenderableType:
    """A row per size that a basis could have."""
    return grid(_OPTIONS, document["options"], "no sizes")


def rebuilt(document: Row) -> RenderableType:
    """A basis before and after, and every member's error in both."""
    old = {form["version"]: form["error"] for form in document["before_forms"]}
    rows = [{**form, "before": old.get(form["version"])} for form in document["after_forms"]]
    columns = (FORMS[0], Column("before", "before", error, right=True), Column("after", "error", error, right=True), FORMS[4])
    kept = "removed" if document["removed"] else "kept"
    both = grid(_BASES, [document["before"], document["after"]], "")
    return Group(both, line(f"{document['before']['ref']}: {kept}"), *titled("Members", grid(columns, rows, "")))


def written(document: Row) -> RenderableType:
    """A reconstruction written."""
    stated = f"error {error(document['error'])} ({document['error_kind']})"
    return line(f"{document['ref']} from {document['basis']} -> {document['path']}  {size(document['bytes'])}, {stated}")


def compaction(document: Row) -> RenderableType:
    """What stands for each version now, or would."""
    would, count = document["dry_run"], len(document["refs"])
    if document["level"] == "bounded":
        parts: list[RenderableType] = [grid(FORMS, document["forms"].values(), "no forms")]
        parts += [line(f"revert of {ref} becomes bounded", "yellow") for ref in document["merges_bounded"]]
        verb = "would drop" if would else "dropped"
        return Group(*parts, line(f"{verb} the exact bytes of {count} version(s), {size(document['bytes_freed'])}", "bold"))
    rows = [{"version": ref, **form} for ref, form in document["coded"].items()]
    parts = [grid(_CODED, rows, "no coded objects")] if rows else []
    parts += [line(f"{ref} stays as it is: coded it would be no smaller", "yellow") for ref in document["kept"]]
    done = "would be" if would else "are"
    moved = f"{size(abs(document['bytes_freed']))} {'less' if document['bytes_freed'] >= 0 else 'more'}"
    return Group(*parts, line(f"{count} version(s) {done} at level {document['level']}, {moved}", "bold"))
