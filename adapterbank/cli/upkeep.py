"""The bank itself: init, doctor, upgrade, verify, gc, remove."""

from __future__ import annotations

import click

from adapterbank.cli.command import command
from adapterbank.cli.documents import document
from adapterbank.cli.documents.upkeep import (
    BankDocument,
    DoctorDocument,
    GarbageDocument,
    RemovalDocument,
    UpgradedDocument,
    VerificationDocument,
)
from adapterbank.cli.options import Selection, dry_run, references
from adapterbank.cli.output import emit
from adapterbank.cli.progress import progress
from adapterbank.cli.session import Session, pass_session
from adapterbank.errors import AdapterBankError, IntegrityError, NotFoundError
from adapterbank.report import upkeep as pictures


@command("init", examples=("adapterbank init", "adapterbank --bank ./bank init"), prints=(BankDocument,))
@pass_session
def init_command(session: Session) -> None:
    """Make an empty bank.

    In the folder of --bank, else of the environment variable ADAPTERBANK, else in the platform's data folder. A bank that
    is there already is left as it is.
    """
    try:
        session.open(readonly=True)
        created = False
    except NotFoundError:
        session.open(create=True)
        created = True
    emit(session, document(BankDocument, {"bank": session.location, "created": created}), pictures.bank)


@command("doctor", examples=("adapterbank doctor", "adapterbank --bank ./bank doctor --json"), prints=(DoctorDocument,))
@pass_session
def doctor_command(session: Session) -> None:
    """Say how this bank is set up and what is wrong with it.

    The versions of SQLite and of the schema, the journal mode and why, the file system, locks, left-over files. Exit code 1
    if a check finds an error.
    """
    checks = session.open(readonly=True).doctor()
    emit(session, document(DoctorDocument, {"bank": session.location, "checks": checks}), pictures.doctor)
    if any(check.status == "error" for check in checks):
        raise AdapterBankError("the bank has errors", hint="do what the checks above say")


@command("upgrade", examples=("adapterbank upgrade", "adapterbank --bank ./bank upgrade"), prints=(UpgradedDocument,))
@pass_session
def upgrade_command(session: Session) -> None:
    """Bring the schema of a bank up to date; a backup is kept."""
    from adapterbank.bank import Bank

    emit(session, document(UpgradedDocument, Bank.upgrade(session.location)), pictures.upgraded)


@command(
    "verify",
    examples=("adapterbank verify", "adapterbank verify sql@1 math", "adapterbank verify --sample 0.02 --json"),
    prints=(VerificationDocument,),
)
@references("[REF]...")
@click.option("--sample", type=click.FloatRange(0, 1, min_open=True), metavar="FRACTION", help="Only so many of the objects.")
@pass_session
def verify_command(session: Session, selection: Selection, sample: float | None) -> None:
    """Check stored bytes and rows against their digests.

    All of them, or what the versions named need. Exit code 5 if anything is wrong.
    """
    bank = session.open(readonly=True)
    refs = selection.of(bank) if selection else None
    with progress(session, "verify") as step:
        found = bank.verify(refs, sample=sample, progress=step)
    emit(session, document(VerificationDocument, found), pictures.verification)
    if found.problems:
        raise IntegrityError(f"{len(found.problems)} problem(s) found", hint="restore these objects from a copy of the bank")


@command(
    "gc",
    examples=("adapterbank gc --dry-run", "adapterbank gc", "adapterbank gc --grace 0"),
    prints=(GarbageDocument,),
)
@dry_run
@click.option(
    "--grace", type=click.FloatRange(min=0), default=3600.0, show_default=True, metavar="SECONDS", help="Keep younger objects."
)
@pass_session
def gc_command(session: Session, dry_run: bool, grace: float) -> None:
    """Delete objects that nothing refers to, and what killed processes left behind."""
    found = session.open().gc(dry_run=dry_run, grace=grace)
    objects = [{"digest": digest, "bytes": count} for digest, count in found.objects]
    emit(session, document(GarbageDocument, found, objects=objects), pictures.garbage)


@command(
    "remove",
    examples=("adapterbank remove sql@1 --dry-run", "adapterbank remove sql@1", "adapterbank remove --where 'tag.stage=trash'"),
    prints=(RemovalDocument,),
)
@references()
@dry_run
@pass_session
def remove_command(session: Session, selection: Selection, dry_run: bool) -> None:
    """Remove versions that nothing else needs.

    Exit code 11 with the dependents if something needs one of them. Version numbers are never used again.
    """
    bank = session.open()
    emit(session, document(RemovalDocument, bank.remove(selection.of(bank), dry_run=dry_run)), pictures.removal)
