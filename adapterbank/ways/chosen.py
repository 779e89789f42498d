"""What is to be served: the versions, every name that they go by, and the stored form of each, in one state of the catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from adapterbank.catalog import base_models, bases, members, versions
from adapterbank.catalog.rows import Basis as BasisRow
from adapterbank.catalog.rows import Member as MemberRow
from adapterbank.catalog.rows import Version
from adapterbank.errors import AdapterBankError, ConflictError, IncompatibleError, NotFoundError, UsageError
from adapterbank.lora.layout import ModuleShape
from adapterbank.serving.packed.stored import STORES
from adapterbank.serving.slots import LLAMA, Plan, check_plan
from adapterbank.ways.coding import FIXED
from adapterbank.ways.joinable import plain_lora, same_base_model
from adapterbank.ways.rooms import Rooms
from adapterbank.ways.sizes import RMM

FORMS = ("auto", "rmm", "fixed", "raw")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to serve: ``refs``, or all members of ``basis``; from which ``form``; ``store`` is how numbers of a basis or of raw
    factors are resident (None: as they are stored); ``rank`` is the buffer's (None: the largest of each module); ``shard`` is
    (worker, workers) of tensor parallelism by ``plan``."""

    refs: tuple[str, ...] = ()
    basis: str | None = None
    form: str = "auto"
    store: str | None = None
    rank: int | None = None
    shard: tuple[int, int] | None = None
    plan: Plan = field(default_factory=lambda: LLAMA)
    device: str = "cpu"

    def __post_init__(self) -> None:
        for ref in self.refs:
            check_text(ref)
        if self.form not in FORMS:
            raise UsageError(f"form {self.form!r}: expected one of {', '.join(FORMS)}")
        if self.store is not None and self.store not in STORES:
            raise UsageError(f"store {self.store!r}: expected one of {', '.join(STORES)}")
        if self.store is not None and self.form == FIXED:
            raise UsageError(
                f"store {self.store!r}: the codes of the form 'fixed' are resident as they are", hint="leave it out"
            )
        if not self.refs and self.basis is None:
            raise UsageError("nothing to serve: expected references or a basis")
        if self.form == RMM and self.basis is None:
            raise UsageError("form 'rmm' needs a basis", hint="adapterbank basis list")
        self._check_numbers()

    def _check_numbers(self) -> None:
        if self.rank is not None and not (_whole(self.rank) and self.rank > 0):
            raise UsageError(f"rank {self.rank!r}: expected a whole number from 1")
        if self.shard is not None and not _pair(self.shard):
            raise UsageError(f"shard {self.shard!r}: expected (worker, workers), such as (0, 2)")
        check_plan(self.plan)


@dataclass(frozen=True, slots=True)
class Item:
    """One version, and the stored form that it is served from (None: its exact bytes)."""

    version: Version
    form: MemberRow | None


@dataclass(frozen=True, slots=True)
class Chosen:
    """``items`` by immutable reference, ``names`` from everything that one of them was called, ``basis`` that was asked for."""

    base_model: str
    basis: BasisRow | None
    items: Mapping[str, Item]
    names: Mapping[str, str]

    @property
    def shapes(self) -> list[ModuleShape]:
        """The modules of all versions."""
        return [shape for item in self.items.values() for shape in item.version.modules]


def choose(rooms: Rooms, wanted: Wanted, base_model: str | None = None) -> Chosen:
    """What ``wanted`` means now, which must be on ``base_model`` if that is given.

    Raises NotFoundError, IncompatibleError (base models, what is no plain LoRA), UsageError, ConflictError.
    """
    with rooms.catalog.reading() as tx:
        row = None if wanted.basis is None else bases.get(tx, wanted.basis)
        if row is not None and wanted.form == RMM and row.codec != RMM:
            raise UsageError(
                f"form 'rmm': {row.ref} is a collection of coded adapters, without mean and components",
                hint="form 'auto', or adapterbank basis build NAME … --components P",
            )
        refs = wanted.refs or tuple(member.version for member in members.of_basis(tx, bases.get(tx, wanted.basis or "")))
        found = [versions.get(tx, ref) for ref in refs]
        same_base_model(found)
        plain_lora(found)
        _check_still(tx, found[0], base_model)
        items = {version.ref: Item(version, _form(members.of_version(tx, version), wanted, row, version)) for version in found}
        return Chosen(found[0].base_model, row, items, _names(tx, refs, found))


def absent(rooms: Rooms, wanted: Wanted, chosen: Chosen, ref: str) -> Exception:
    """Why ``ref`` is not among what was chosen, as the error to be raised."""
    check_text(ref)
    with rooms.catalog.reading() as tx:
        found = versions.get(tx, ref)  # says what does not exist at all
    said = f"{ref!r} is not among the {len(chosen.items)} adapters that are served"
    if found.ref in chosen.items:
        return NotFoundError(f"{said}: it means {found.ref} now", hint=f"ask for {found.ref}, or refresh()")
    if found.ref != ref:
        said += f": it means {found.ref}"
    if found.ref in _now(rooms, wanted):
        return NotFoundError(said, hint="refresh()")
    more = (
        f"bank.serving([…, {found.ref!r}])"
        if wanted.refs
        else f"adapterbank basis add {wanted.basis} {found.ref}, then refresh()"
    )
    return NotFoundError(said, hint=more)


def _now(rooms: Rooms, wanted: Wanted) -> Mapping[str, Item]:
    """What would be served after a refresh; nothing, if that would be refused."""
    try:
        return choose(rooms, wanted).items
    except AdapterBankError:
        return {}


def check_text(ref: object) -> None:
    """UsageError unless a reference is a text."""
    if not isinstance(ref, str):
        raise UsageError(f"reference {ref!r}: expected a text such as 'sql@3'")


def _whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _pair(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(map(_whole, value))


def _check_still(tx: Connection, version: Version, base_model: str | None) -> None:
    """The name that it had may have been joined to another one's meanwhile."""
    before = None if base_model is None else base_models.find(tx, base_model)
    if before is not None and before.name != version.base_model:
        raise IncompatibleError(
            f"{version.ref} is on {version.base_model}, what is resident on {before.name}",
            hint="serve it by itself; if these are one model: adapterbank model join NAME OTHER_NAME",
        )


def _names(tx: Connection, refs: Sequence[str], found: Sequence[Version]) -> dict[str, str]:
    names: dict[str, str] = {}
    for given, version in zip(refs, found, strict=True):
        digests = (f"sha256:{version.files}", f"sha256:{version.content}")
        names |= dict.fromkeys([given, version.ref, *digests], version.ref)
        names |= {f"{version.name}@{alias}": version.ref for alias in version.aliases}
    for name in {version.name for version in found}:
        newest = versions.get(tx, name).ref
        if newest in names:
            names[name] = newest
    return names


def _form(forms: Sequence[MemberRow], wanted: Wanted, row: BasisRow | None, version: Version) -> MemberRow | None:
    """The form that a version is served from: of the basis, else of fixed width, else the exact bytes, else any."""
    if row is not None and wanted.form in ("auto", RMM):
        found = next((form for form in forms if form.basis == row.ref), None)
        if found is None and wanted.form == RMM:
            raise NotFoundError(
                f"{version.ref} is no member of {row.ref}", hint=f"adapterbank basis add {row.ref} {version.ref}"
            )
        if found is not None:
            return found
    alone = next((form for form in forms if form.codec == FIXED), None)
    if wanted.form in ("auto", FIXED):
        if alone is not None:
            return _as_it_is(alone, wanted, version)
        if wanted.form == FIXED:
            raise NotFoundError(f"{version.ref} has no fixed-width form", hint=f"adapterbank encode {version.ref} --fixed")
    if version.level != "bounded":
        return None
    if not forms:
        raise ConflictError(f"{version.ref} has neither exact bytes nor a form", hint="adapterbank verify")
    return forms[0]


def _as_it_is(form: MemberRow, wanted: Wanted, version: Version) -> MemberRow:
    if wanted.store is not None:
        raise UsageError(
            f"store {wanted.store!r}: {version.ref} is served from its fixed-width form, whose codes are resident as they are",
            hint="form='raw' serves the factors, no store the codes",
        )
    return form
