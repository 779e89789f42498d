"""Calibration: what merges learn from data is made once and kept."""

from __future__ import annotations

from typing import Any

import click

from adapterbank.cli.command import command
from adapterbank.cli.documents import document
from adapterbank.cli.documents.calibrations import CalibratedDocument, ProcedureDocument, ProceduresDocument
from adapterbank.cli.hooks import setting_of, with_data
from adapterbank.cli.methods import listed
from adapterbank.cli.options import Selection, references
from adapterbank.cli.output import emit
from adapterbank.cli.progress import progress
from adapterbank.cli.session import Session, pass_session
from adapterbank.cli.values import Pair
from adapterbank.errors import UsageError
from adapterbank.report import calibrations as pictures

_PROCEDURE_KEYS = ("name", "makes", "summary", "source")


@command(
    "calibrate",
    examples=(
        "adapterbank calibrate --list",
        "adapterbank calibrate gram sql@1 math@2 --with data.py:setting",
        "adapterbank calibrate adamerging @refs.txt --with data.py:setting --option steps=200 --seed 7",
    ),
    prints=(CalibratedDocument, ProceduresDocument),
)
@click.argument("kind", metavar="[KIND]", required=False)
@references("[REF]...")
@with_data
@click.option("--option", "options", multiple=True, type=Pair(), metavar="K=V", help="An option of it; may be repeated.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="For what draws.")
@click.option("--list", "listing", is_flag=True, help="List the KINDs and their options.")
@pass_session
def calibrate_command(
    session: Session, kind: str | None, selection: Selection, setting: Any, listing: bool, options: Any, **given: Any
) -> None:
    """Learn from data what a merge needs, and store it as artefacts.

    Statistics of each adapter (gram, fisher ...) or coefficients over all of them (adamerging, frank_wolfe ...). A merge then
    takes them by itself or with --using, and is replayed without data. The function of --with is given the references and
    returns adapterbank.calibration.tasks.Setting: the base model, and a task for each reference. If it holds data out, the
    result is judged by them: by what the method sets out to improve, before (where it starts) and after.
    """
    if listing:
        _list(session)
        return
    if kind is None or setting is None:
        raise UsageError("expected a KIND, adapters and --with FILE.py:FUNCTION", hint="adapterbank calibrate --list")
    bank = session.open()
    refs = selection.of(bank)
    with progress(session, f"calibrate {kind}") as step:
        made = bank.calibrate(kind, refs, setting_of(setting, refs), options=dict(options), progress=step, **given)
    emit(session, document(CalibratedDocument, made), pictures.calibrated)


def _list(session: Session) -> None:
    from adapterbank.calibration.procedures import PROCEDURES

    found = [
        document(ProcedureDocument, {**{key: getattr(row, key) for key in _PROCEDURE_KEYS}, "options": listed(row)})
        for row in PROCEDURES.values()
    ]
    emit(session, document(ProceduresDocument, {"procedures": found}), pictures.procedures)
