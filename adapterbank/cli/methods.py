"""The merge methods, and what can be done before them."""

from __future__ import annotations

from typing import Any

from adapterbank.cli.command import command
from adapterbank.cli.documents import document
from adapterbank.cli.documents.merges import MethodDocument, MethodsDocument, PreparationDocument
from adapterbank.cli.output import emit
from adapterbank.cli.session import Session, pass_session
from adapterbank.report import merges as pictures

_METHOD_KEYS = ("name", "kind", "summary", "formula", "source", "needs", "laws")
_PREPARATION_KEYS = ("name", "summary", "formula", "source")


@command("methods", examples=("adapterbank methods", "adapterbank methods --json"), prints=(MethodsDocument,))
@pass_session
def methods_command(session: Session) -> None:
    """List the merge methods with what they need and where they come from, and the preparations.

    "needs" says what a method takes beside adapters and weights: artefacts of "adapterbank calibrate", or a metric.
    """
    from adapterbank.merge import all_methods
    from adapterbank.merge.preparations import PREPARATIONS

    found = {
        "methods": [_method(method) for method in all_methods().values()],
        "preparations": [_preparation(each) for each in PREPARATIONS.values()],
    }
    emit(session, document(MethodsDocument, found), pictures.methods)


def _method(method: Any) -> MethodDocument:
    return document(MethodDocument, {**{key: getattr(method, key) for key in _METHOD_KEYS}, "options": listed(method)})


def _preparation(each: Any) -> PreparationDocument:
    given = {key: getattr(each, key) for key in _PREPARATION_KEYS}
    return document(PreparationDocument, {**given, "options": listed(each)})


def listed(row: Any) -> list[dict[str, Any]]:
    """The options of a row of a table, as documents have them."""
    return [
        {"name": option.name, "default": option.default, "expected": option.expected, "help": option.hint.help}
        for option in row.options
    ]
