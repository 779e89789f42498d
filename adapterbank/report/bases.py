"""Pictures of bases, their members and their sizes."""

from __future__ import annotations

from rich.console import Group, RenderableType

from adapterbank.report.forms import KIND, VERSION
from adapterbank.report.forms import forms as form_rows
from adapterbank.report.forms import modules as module_tables
from adapterbank.report.grid import Column, Row, facts, grid, line, titled
from adapterbank.report.words import error, pairs, share, short, size, when

_BASES = (
    Column("basis", "ref", style="cyan", whole=True),
    Column("codec", "codec", whole=True),
    Column("n", "members", right=True),
    Column("p", "components", right=True),
    Column("gauge", "gauge", whole=True),
    Column("dtype", "dtype", whole=True),
    Column("own size", "bytes", size, right=True),
    Column("of members", "members_bytes", size, right=True),
    Column("mean error", "error_mean", error, right=True),
    Column("worst", "error_worst", error, right=True),
    Column("errors", "error_kind", whole=True),
)
_FACTS = (
    Column("basis", "ref", style="cyan"),
    Column("base model", "base_model"),
    Column("codec", "codec"),
    Column("coded to", "settings", pairs),
    Column("gauge", "gauge"),
    Column("p", "components"),
    Column("dtype", "dtype"),
    Column("own size", "bytes", size),
    Column("of members", "members_bytes", size),
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
_CODED_INSTEAD = (
    "--components P builds one of these (codec rmm). --bits B and --max-error E code each adapter instead, to B bits per "
    "parameter or to an error of at most E (codec rd): fewer bytes at an equal error."
)


def bases(document: Row) -> RenderableType:
    """A row per basis."""
    return grid(_BASES, document["bases"], "no bases")


def basis(document: Row) -> RenderableType:
    """One basis, its members, and their modules if they are told."""
    rows = document["forms"]
    return Group(facts(_FACTS, document), *titled("Members", form_rows(rows)), *module_tables(rows))


def forms(document: Row) -> RenderableType:
    """A row per stored form."""
    return form_rows(document["forms"])


def options(document: Row) -> RenderableType:
    """A row per size that an RMM basis could have, and what there is beside it."""
    return Group(grid(_OPTIONS, document["options"], "no sizes"), line(_CODED_INSTEAD, "dim"))


def rebuilt(document: Row) -> RenderableType:
    """A basis before and after, and every member's error in both."""
    old = {form["version"]: form["error"] for form in document["before_forms"]}
    rows = [{**form, "before": old.get(form["version"])} for form in document["after_forms"]]
    columns = (VERSION, Column("before", "before", error, right=True), Column("after", "error", error, right=True), KIND)
    kept = "removed" if document["removed"] else "kept"
    both = grid(_BASES, [document["before"], document["after"]], "")
    return Group(both, line(f"{document['before']['ref']}: {kept}"), *titled("Members", grid(columns, rows, "")))


def written(document: Row) -> RenderableType:
    """A reconstruction written."""
    stated = f"error {error(document['error'])} ({document['error_kind']})"
    form = document["basis"] or f"its form {document['codec']}"
    return line(f"{document['ref']} from {form} -> {document['path']}  {size(document['bytes'])}, {stated}")


def compaction(document: Row) -> RenderableType:
    """What stands for each version now, or would."""
    would, count = document["dry_run"], len(document["refs"])
    if document["level"] == "bounded":
        parts: list[RenderableType] = [form_rows(document["forms"].values())]
        parts += [line(f"revert of {ref} becomes bounded", "yellow") for ref in document["merges_bounded"]]
        verb = "would drop" if would else "dropped"
        return Group(*parts, line(f"{verb} the exact bytes of {count} version(s), {size(document['bytes_freed'])}", "bold"))
    rows = [{"version": ref, **form} for ref, form in document["coded"].items()]
    parts = [grid(_CODED, rows, "no coded objects")] if rows else []
    parts += [line(f"{ref} stays as it is: coded it would be no smaller", "yellow") for ref in document["kept"]]
    done = "would be" if would else "are"
    moved = f"{size(abs(document['bytes_freed']))} {'less' if document['bytes_freed'] >= 0 else 'more'}"
    return Group(*parts, line(f"{count} version(s) {done} at level {document['level']}, {moved}", "bold"))
