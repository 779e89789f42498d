"""serve: versions of a bank as what is resident, read from verified objects and packed for one buffer layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from adapterbank import container
from adapterbank.catalog import members, versions
from adapterbank.catalog.rows import Basis as BasisRow
from adapterbank.codecs import fixed
from adapterbank.errors import IncompatibleError, NotFoundError
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import delta_error
from adapterbank.rmm.objects import Member
from adapterbank.serving import kernels
from adapterbank.serving.kernels.reference import Packed
from adapterbank.serving.packed.fixed import FixedAdapter
from adapterbank.serving.packed.raw import RawAdapter
from adapterbank.serving.packed.rmm import ResidentBasis, RmmAdapter
from adapterbank.serving.slots import SlotLayout
from adapterbank.ways.chosen import Chosen, Item, Wanted, absent, choose
from adapterbank.ways.coding import FIXED
from adapterbank.ways.load import load
from adapterbank.ways.reconstruct import open_basis, reconstruct_member
from adapterbank.ways.rooms import Rooms
from adapterbank.ways.sizes import RMM


class BankSource:
    """Adapters of an open bank as they were when it was looked at, for buffers of one layout."""

    def __init__(
        self, rooms: Rooms, wanted: Wanted, chosen: Chosen, layout: SlotLayout, basis: ResidentBasis | None = None
    ) -> None:
        """``basis``: the one that is resident already. Raises IncompatibleError for modules that do not fit the layout."""
        self._rooms, self._wanted, self._chosen, self.layout = rooms, wanted, chosen, layout
        for shape in chosen.shapes:
            layout.check_holds(shape)
        self._basis = _resident_basis(rooms, wanted, chosen.basis, layout) if basis is None else basis

    @classmethod
    def of(cls, rooms: Rooms, wanted: Wanted) -> BankSource:
        """For buffers of the adapters' own layout. Raises NotFoundError, UsageError, IncompatibleError (models, shapes)."""
        chosen = choose(rooms, wanted)
        whole = SlotLayout.of(chosen.shapes, wanted.rank)
        return cls(rooms, wanted, chosen, whole if wanted.shard is None else whole.shard(*wanted.shard, wanted.plan))

    @property
    def refs(self) -> tuple[str, ...]:
        return tuple(self._chosen.items)

    @property
    def shared_bytes(self) -> int:
        return 0 if self._basis is None else self._basis.nbytes

    def version(self, ref: str) -> str:
        """The immutable reference that ``ref`` meant when the bank was looked at. Raises NotFoundError."""
        found = self._chosen.names.get(ref)
        if found is None:
            raise absent(self._rooms, self._wanted, self._chosen, ref)
        return found

    def load(self, version: str) -> Packed:
        """The adapter in host memory, pinned if the device is a GPU. Raises NotFoundError for one that left the bank."""
        packed = self._packed(self._chosen.items[version])
        return packed.moved(Tensor.pin_memory) if torch.device(self._wanted.device).type == "cuda" else packed

    def error(self, version: str) -> float:
        """The form's own error; a bound where integers or a narrower type stand for its numbers."""
        item = self._chosen.items[version]
        stated = 0.0 if item.form is None else item.form.error
        if isinstance(packed := self._packed(item), FixedAdapter):
            return stated
        exact, served = self._adapter(item), _written(packed)
        if self._wanted.shard is not None or _same(exact, served):
            return stated
        return stated + (1 + stated) * delta_error(exact, served).total

    def lora_config(self, version: str) -> bytes:
        """The configuration as it was registered."""
        return self._rooms.vault.read(self._chosen.items[version].version.config)

    def refreshed(self) -> BankSource:
        """The same as the bank is now, for the same layout. Raises IncompatibleError if it is for another base model now."""
        chosen = choose(self._rooms, self._wanted, self._chosen.base_model)
        return BankSource(self._rooms, self._wanted, chosen, self.layout)

    def laid_out(self, layout: SlotLayout) -> BankSource:
        """The same for buffers of another layout. Raises IncompatibleError if an adapter does not fit, or this is a shard."""
        if not self.layout.whole:
            raise IncompatibleError(
                "this is one worker's shard, a model has whole modules",
                hint="write() into the worker's own buffer, or no shard",
            )
        return BankSource(self._rooms, self._wanted, self._chosen, layout, self._basis)

    def _there(self, item: Item) -> bool:
        """Whether the bank still says that it has what ``item`` names."""
        try:
            with self._rooms.catalog.reading() as tx:
                forms = members.of_version(tx, item.version)
                return item.form in forms if item.form is not None else versions.get(tx, item.version.ref).id == item.version.id
        except NotFoundError:
            return False

    def _packed(self, item: Item) -> Packed:
        try:
            return self._read(item)
        except NotFoundError as error:
            if self._there(item):
                raise
            said = f"what was served as {item.version.ref} is not in the bank any more: {error.message}"
            raise NotFoundError(said, hint="refresh()") from error

    def _read(self, item: Item) -> Packed:
        row = self._chosen.basis
        if item.form is not None and item.form.codec == RMM and self._basis is not None and row is not None:
            with self._rooms.vault.open(item.form.object) as mapped:
                member = Member.from_object(*container.read(mapped.buffer), row.shared)
                return RmmAdapter.of(member, self._basis, self.layout)
        if item.form is not None and item.form.codec == FIXED:
            with self._rooms.vault.open(item.form.object) as mapped:
                return FixedAdapter.of(fixed.read(mapped.buffer, check=False), self.layout)
        return RawAdapter.of(self._adapter(item), self.layout, self._wanted.store or "float32")

    def _adapter(self, item: Item) -> Adapter:
        if item.form is not None:
            return reconstruct_member(self._rooms, item.form, self._chosen.base_model)
        with load(self._rooms, item.version) as loaded:
            modules = {n: replace(f, A=f.A.clone(), B=f.B.clone()) for n, f in loaded.adapter.modules.items()}
            return Adapter(modules, self._chosen.base_model)


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


def _resident_basis(rooms: Rooms, wanted: Wanted, row: BasisRow | None, layout: SlotLayout) -> ResidentBasis | None:
    if row is None or row.codec != RMM or wanted.form not in ("auto", RMM):
        return None
    with open_basis(rooms, row) as basis:
        made = ResidentBasis.of(basis, layout, wanted.store or basis.dtype)
    place = torch.device(wanted.device)
    move: Callable[[Tensor], Tensor] = lambda tensor: tensor.to(place)  # noqa: E731
    return made.moved(move)
