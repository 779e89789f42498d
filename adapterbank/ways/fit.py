"""Fit a basis into staged files: streamed, measured from what was written, not yet in the bank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from mmap import mmap
from typing import Any

from torch import Tensor

from adapterbank import container
from adapterbank.catalog.rows import NewMember, Version
from adapterbank.lora.adapter import Adapter
from adapterbank.lora.delta import DeltaError
from adapterbank.lora.layout import Layout
from adapterbank.rmm.collection import check_places, fit_collection, project_adapter
from adapterbank.rmm.members import stored_error
from adapterbank.rmm.objects import Basis, Member, basis_plan, class_components, member_plan
from adapterbank.vault.staging import Staged
from adapterbank.ways.results import Progress
from adapterbank.ways.rooms import Rooms


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """An adapter to be fitted; ``inherited`` is the error it has already if it comes from a bounded form, else None."""

    version: Version
    adapter: Adapter
    inherited: DeltaError | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Object:
    """A staged object to be: its file, its digest and its size in bytes."""

    staged: Staged
    digest: str
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A basis and its members, staged, each member with the row that tells its error."""

    basis: Object
    members: tuple[tuple[Version, Object, NewMember], ...]

    @property
    def size(self) -> int:
        """Bytes of all objects."""
        return self.basis.size + sum(stored.size for _, stored, _ in self.members)

    @property
    def errors(self) -> list[float]:
        return [row.error for _, _, row in self.members]


@contextmanager
def fitted(
    rooms: Rooms,
    sources: Sequence[Source],
    layout: Layout,
    p: int,
    *,
    gauge: str,
    dtype: str,
    progress: Progress | None = None,
) -> Iterator[Fitted]:
    """Fit ``sources`` with p components; the staged files live as long as the block. Memory is a few row blocks."""
    shapes = [source.adapter.shapes for source in sources]
    components = class_components(layout, shapes, p)
    with ExitStack() as stack:
        basis = _Draft.of(rooms, stack, basis_plan(layout, components, p=p, gauge=gauge, dtype=dtype))
        drafts = [
            _Draft.of(rooms, stack, _member_plan(layout, source.adapter, components, p, dtype, None)) for source in sources
        ]
        adapters = [source.adapter for source in sources]
        fit_collection(adapters, layout, basis.tensors, [draft.tensors for draft in drafts], gauge=gauge, progress=progress)
        stored = basis.finish()
        value = Basis.from_object(*container.read(basis.buffer))
        rows = []
        for source, draft in zip(sources, drafts, strict=True):
            draft.write_header(_member_plan(layout, source.adapter, components, p, dtype, stored.digest))
            rows.append((source.version, *_measured(source, value, stored.digest, draft)))
        yield Fitted(stored, tuple(rows))


@contextmanager
def projected(rooms: Rooms, source: Source, basis: Basis, digest: str) -> Iterator[tuple[Object, NewMember]]:
    """Project one adapter on a stored basis; the staged member lives as long as the block."""
    check_places(source.adapter, basis.layout)
    components = {rank: len(parts) for rank, parts in basis.components.items()}
    with ExitStack() as stack:
        plan = _member_plan(basis.layout, source.adapter, components, basis.p, basis.dtype, digest)
        draft = _Draft.of(rooms, stack, plan)
        project_adapter(source.adapter, basis, draft.tensors)
        yield _measured(source, basis, digest, draft)


@dataclass(frozen=True, slots=True, eq=False)
class _Draft:
    """A staged file that is being written through a mapping."""

    staged: Staged
    buffer: mmap
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, rooms: Rooms, stack: ExitStack, plan: container.Plan) -> _Draft:
        staged = stack.enter_context(rooms.vault.stage())
        buffer = staged.map(plan.size)
        buffer[: len(plan.header)] = plan.header
        return cls(staged, buffer, container.tensors(buffer, plan))

    def write_header(self, plan: container.Plan) -> None:
        """Put another header of equal length: the digest of the basis is known only when it was written."""
        self.buffer[: len(plan.header)] = plan.header

    def finish(self) -> Object:
        return Object(self.staged, self.staged.digest(), self.staged.size)


def _member_plan(
    layout: Layout, adapter: Adapter, components: dict[int, int], p: int, dtype: str, digest: str | None
) -> container.Plan:
    own = Layout.of(adapter.shapes)
    named: dict[str, Any] = {} if digest is None else {"basis": digest}
    return member_plan(layout, own, components, p=p, dtype=dtype, extras=adapter.extras, **named)


def _measured(source: Source, basis: Basis, digest: str, draft: _Draft) -> tuple[Object, NewMember]:
    """The member as it was written, and its row with the error measured from that."""
    member = Member.from_object(*container.read(draft.buffer), digest)
    error = in_all(stored_error(source.adapter, basis, member), source.inherited)
    stored = draft.finish()
    kind = "measured" if source.inherited is None else "bound"
    return stored, NewMember(stored.digest, stored.size, error.total, member.absent, error.modules, kind)


def in_all(error: DeltaError, inherited: DeltaError | None) -> DeltaError:
    """Against the original: ‖W − Ŵ₂‖ ≤ ‖W − Ŵ₁‖ + ‖Ŵ₁ − Ŵ₂‖, and the second is relative to ‖Ŵ₁‖ ≤ (1 + e₁)·‖W‖."""
    if inherited is None:
        return error

    def bound(first: float, second: float) -> float:
        return first + second * (1.0 + first)

    modules = {name: bound(inherited.modules.get(name, 0.0), value) for name, value in error.modules.items()}
    return DeltaError(bound(inherited.total, error.total), modules)
