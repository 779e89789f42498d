"""serve: versions of a bank as what is resident, read from verified objects and packed for one buffer layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from adapterbank import container
from adapterbank.catalog import bases, members, versions
from adapterbank.catalog.rows import Basis as BasisRow
from adapterbank.catalog.rows import Member as MemberRow
from adapterbank.catalog.rows import Version
from adapterbank.codecs import fixed
from adapterbank.errors import ConflictError, NotFoundError, UsageError
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import delta_error
from adapterbank.lora.layout import ModuleShape
from adapterbank.rmm.objects import Member
from adapterbank.serving import kernels
from adapterbank.serving.kernels.reference import Packed
from adapterbank.serving.packed.fixed import FixedAdapter
from adapterbank.serving.packed.raw import RawAdapter
from adapterbank.serving.packed.rmm import ResidentBasis, RmmAdapter
from adapterbank.serving.packed.stored import STORES
from adapterbank.serving.slots import LLAMA, Plan, SlotLayout
from adapterbank.ways.coding import FIXED
from adapterbank.ways.joinable import plain_lora, same_base_model
from adapterbank.ways.load import load
from adapterbank.ways.reconstruct import open_basis, reconstruct_member
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
        if self.form not in FORMS:
            raise UsageError(f"form {self.form!r}: expected one of {', '.join(FORMS)}")
        if self.store is not None and self.store not in STORES:
            raise UsageError(f"store {self.store!r}: expected one of {', '.join(STORES)}")
        if not self.refs and self.basis is None:
            raise UsageError("nothing to serve: expected references or a basis")
        if self.form == "rmm" and self.basis is None:
            raise UsageError("form 'rmm' needs a basis", hint="adapterbank basis list")


@dataclass(frozen=True, slots=True)
class _Item:
    """One version, and the stored form that it is served from (None: its exact bytes)."""

    version: Version
    form: MemberRow | None


class BankSource:
    """Adapters of an open bank as they were when this was made."""

    def __init__(self, rooms: Rooms, wanted: Wanted, layout: SlotLayout | None = None) -> None:
        """For buffers of ``layout``, or of the adapters' own. Raises NotFoundError, IncompatibleError (base models, shapes,
        modules that do not fit), UsageError."""
        self._rooms, self._wanted = rooms, wanted
        row, chosen, names = _look(rooms, wanted)
        same_base_model(chosen)
        plain_lora(chosen)
        self.base_model = chosen[0].base_model
        self._items = _items(rooms, wanted, row, chosen)
        self._names = names
        shapes: list[ModuleShape] = [shape for version in chosen for shape in version.modules]
        if layout is None:
            whole = SlotLayout.of(shapes, wanted.rank)
            layout = whole if wanted.shard is None else whole.shard(*wanted.shard, wanted.plan)
        for shape in shapes:
            layout.check_holds(shape)
        self.layout = layout
        self._basis, self._digest = _resident_basis(rooms, wanted, row, self.layout)

    @property
    def refs(self) -> tuple[str, ...]:
        return tuple(self._items)

    @property
    def shared_bytes(self) -> int:
        return 0 if self._basis is None else self._basis.nbytes

    def version(self, ref: str) -> str:
        """The immutable reference that ``ref`` meant when the bank was looked at. Raises NotFoundError."""
        found = self._names.get(ref)
        if found is None:
            raise NotFoundError(f"{ref!r} is not among the {len(self._items)} adapters that are served", hint="refresh()")
        return found

    def load(self, version: str) -> Packed:
        """The adapter in host memory, pinned if the device is a GPU."""
        item = self._items[version]
        packed = self._packed(item)
        return packed.moved(Tensor.pin_memory) if torch.device(self._wanted.device).type == "cuda" else packed

    def error(self, version: str) -> float:
        """The form's own error; a bound where integers or a narrower type stand for its numbers."""
        item = self._items[version]
        stated = 0.0 if item.form is None else item.form.error
        if isinstance(packed := self._packed(item), FixedAdapter):
            return stated
        exact, served = self._adapter(item), _written(packed)
        if self._wanted.shard is not None or _same(exact, served):
            return stated
        return stated + (1 + stated) * delta_error(exact, served).total

    def lora_config(self, version: str) -> bytes:
        """The configuration as it was registered."""
        return self._rooms.vault.read(self._items[version].version.config)

    def refreshed(self) -> BankSource:
        """The same as the bank is now, for the same layout."""
        return BankSource(self._rooms, self._wanted, self.layout)

    def laid_out(self, layout: SlotLayout) -> BankSource:
        """The same for buffers of another layout. Raises IncompatibleError if an adapter does not fit."""
        return BankSource(self._rooms, self._wanted, layout)

    def _packed(self, item: _Item) -> Packed:
        if item.form is not None and item.form.codec == RMM and self._basis is not None:
            with self._rooms.vault.open(item.form.object) as mapped:
                return RmmAdapter.of(Member.from_object(*container.read(mapped.buffer), self._digest), self._basis)
        if item.form is not None and item.form.codec == FIXED:
            with self._rooms.vault.open(item.form.object) as mapped:
                return FixedAdapter.of(fixed.read(mapped.buffer, check=False), self.layout)
        return RawAdapter.of(self._adapter(item), self.layout, self._wanted.store or "float32")

    def _adapter(self, item: _Item) -> Adapter:
        if item.form is not None:
            return reconstruct_member(self._rooms, item.form, self.base_model)
        with load(self._rooms, item.version) as loaded:
            modules = {n: replace(f, A=f.A.clone(), B=f.B.clone()) for n, f in loaded.adapter.modules.items()}
            return Adapter(modules, self.base_model)


def _same(exact: Adapter, served: Adapter) -> bool:
    return all(
        torch.equal(f.A.float(), served.modules[name].A[: f.rank])
        and torch.equal(f.B.float() * f.scaling, served.modules[name].B[:, : f.rank])
        for name, f in exact.modules.items()
    )


def _written(packed: Packed) -> Adapter:
    out = torch.zeros(packed.layout.size)
    kernels.write([packed], [out], backend="reference")
    return Adapter(packed.layout.views(out))


def _look(rooms: Rooms, wanted: Wanted) -> tuple[BasisRow | None, list[Version], Mapping[str, str]]:
    """The basis, the versions to serve, and every name that each goes by, in one state of the catalog."""
    with rooms.catalog.reading() as tx:
        row = None if wanted.basis is None else bases.get(tx, wanted.basis)
        refs = wanted.refs or tuple(member.version for member in members.of_basis(tx, bases.get(tx, wanted.basis or "")))
        chosen = [versions.get(tx, ref) for ref in refs]
        names: dict[str, str] = {}
        for given, version in zip(refs, chosen, strict=True):
            digests = (f"sha256:{version.files}", f"sha256:{version.content}")
            names |= dict.fromkeys([given, version.ref, *digests], version.ref)
            names |= {f"{version.name}@{alias}": version.ref for alias in version.aliases}
        for name in {version.name for version in chosen}:
            newest = versions.get(tx, name).ref
            if newest in names:
                names[name] = newest
    return row, list({version.ref: version for version in chosen}.values()), names


def _items(rooms: Rooms, wanted: Wanted, row: BasisRow | None, chosen: Sequence[Version]) -> dict[str, _Item]:
    with rooms.catalog.reading() as tx:
        return {version.ref: _Item(version, _form(members.of_version(tx, version), wanted, row, version)) for version in chosen}


def _form(forms: Sequence[MemberRow], wanted: Wanted, row: BasisRow | None, version: Version) -> MemberRow | None:
    """The form that a version is served from: of the basis, else of fixed width, else the exact bytes, else any."""
    if row is not None and wanted.form in ("auto", "rmm"):
        found = next((form for form in forms if form.basis == row.ref), None)
        if found is None and wanted.form == "rmm":
            raise NotFoundError(
                f"{version.ref} is no member of {row.ref}", hint=f"adapterbank basis add {row.ref} {version.ref}"
            )
        if found is not None:
            return found
    alone = next((form for form in forms if form.codec == FIXED), None)
    if wanted.form == "fixed" and alone is None:
        raise NotFoundError(f"{version.ref} has no fixed-width form", hint=f"adapterbank encode {version.ref} --fixed")
    if wanted.form in ("auto", "fixed") and alone is not None:
        return alone
    if version.level != "bounded":
        return None
    if not forms:
        raise ConflictError(f"{version.ref} has neither exact bytes nor a form", hint="adapterbank verify")
    return forms[0]


def _resident_basis(rooms: Rooms, wanted: Wanted, row: BasisRow | None, layout: SlotLayout) -> tuple[ResidentBasis | None, str]:
    if row is None or row.codec != RMM or wanted.form not in ("auto", "rmm"):
        return None, ""
    with open_basis(rooms, row) as basis:
        made = ResidentBasis.of(basis, layout, wanted.store or basis.dtype)
    place = torch.device(wanted.device)
    move: Callable[[Tensor], Tensor] = lambda tensor: tensor.to(place)  # noqa: E731
    return made.moved(move), row.shared
