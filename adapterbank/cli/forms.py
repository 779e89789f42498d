"""Stored forms as documents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from adapterbank.cli.documents import document
from adapterbank.cli.documents.shared import MemberDetailDocument

if TYPE_CHECKING:
    from adapterbank.bank import Bank
    from adapterbank.catalog.rows import Member


def detailed(bank: Bank, forms: Iterable[Member], modules: bool) -> list[MemberDetailDocument]:
    """Each form in full; with ``modules`` its stored bytes are read too."""
    return [document(MemberDetailDocument, form, modules=bank.form_modules(form) if modules else None) for form in forms]
