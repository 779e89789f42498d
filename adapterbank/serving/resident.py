"""A resident bank: any of its adapters in a buffer with one call, from what is on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.lora.adapter import Factors
from adapterbank.serving import blend, kernels
from adapterbank.serving.apply import apply
from adapterbank.serving.cache import Cache
from adapterbank.serving.kernels.reference import Packed
from adapterbank.serving.slots import SlotLayout
from adapterbank.serving.statistics import Statistics, prometheus

if TYPE_CHECKING:
    from adapterbank.serving.attached import Attached


class Source(Protocol):
    """Where adapters come from; what it tells does not change until it is asked to look again."""

    @property
    def layout(self) -> SlotLayout: ...
    @property
    def refs(self) -> tuple[str, ...]: ...
    @property
    def shared_bytes(self) -> int:
        """Of what all adapters share on the device."""

    def version(self, ref: str) -> str:
        """The immutable reference that ``ref`` means. Raises NotFoundError."""

    def load(self, version: str) -> Packed:
        """The adapter in host memory (pinned, if the device is a GPU)."""

    def error(self, version: str) -> float:
        """The stated relative ΔW error of what is served."""

    def refreshed(self) -> Source:
        """The same source as the bank is now, for the same layout."""

    def laid_out(self, layout: SlotLayout) -> Source:
        """The same adapters for buffers of another layout. Raises IncompatibleError if one does not fit."""


class Resident:
    """Adapters of one base model, in one form, on one device. Safe to share between threads.

    ``layout`` says what a buffer holds; :meth:`buffer` makes one. Names and aliases mean what they meant when the bank was
    loaded, until :meth:`refresh`.
    """

    def __init__(
        self,
        source: Source,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        budget: int,
        host_budget: int = 0,
        backend: str = "auto",
    ) -> None:
        """Raises UsageError or PlatformError for a backend that is none, or cannot run here."""
        self.device, self.dtype = torch.device(device), dtype
        self.backend, self._asked = kernels.backend_for(backend, self.device), backend
        kernels.current(backend, self.device)  # compiles meanwhile
        self._budget, self._host_budget = budget, host_budget
        self._source = source
        self._cache: Cache[Packed] = Cache(source.load, self._placed, budget, host_budget)
        self._attached: Attached | None = None
        self._writes = Lock()
        self._counted = Statistics()

    @property
    def layout(self) -> SlotLayout:
        """The places of a buffer."""
        return self._source.layout

    @property
    def refs(self) -> tuple[str, ...]:
        """The versions that can be asked for."""
        return self._source.refs

    def buffer(self) -> Tensor:
        """A buffer of zeros for :meth:`write`."""
        return torch.zeros(self.layout.size, dtype=self.dtype, device=self.device)

    def write(self, ref: str, out: Tensor) -> None:
        """Write the adapter ``ref`` into ``out``: one launch on the caller's stream, nothing is allocated that stays.

        Modules that it lacks become exact zeros. Raises NotFoundError, UsageError for a buffer that does not fit.
        """
        self.write_many([ref], [out])

    def write_many(self, refs: Sequence[str], outs: Sequence[Tensor]) -> None:
        """Several adapters into a buffer each; those of one form in one launch that reads what they share once."""
        if len(refs) != len(outs):
            raise UsageError(f"got {len(refs)} adapters and {len(outs)} buffers")
        with self._used(refs) as adapters:
            began = perf_counter()
            kernels.write(adapters, outs, backend=self._asked)
            self._count(len(refs), perf_counter() - began)

    def factors(self, ref: str) -> dict[str, Factors]:
        """The factors of ``ref`` by module, in a buffer of their own."""
        out = self.buffer()
        self.write(ref, out)
        return self.layout.views(out)

    def apply(self, module: str, x: Tensor, refs: Sequence[str]) -> Tensor:
        """ΔW_i·x_i ``[m, d_out]`` for ``x [m, d_in]``, row i by the adapter ``refs[i]``, without writing any of them.

        Raises NotFoundError for an adapter, UsageError for a module or a shape that the layout does not have.
        """
        place = next((i for i, place in enumerate(self.layout) if place.whole.name == module), None)
        if place is None:
            raise UsageError(f"the layout has no module {module!r}: it has {len(self.layout.places)} others")
        names = list(dict.fromkeys(refs))
        with self._used(names) as adapters:
            return apply(dict(zip(names, adapters, strict=True)), place, x, refs)

    def blend(self, weights: Mapping[str, float], out: Tensor, *, cut: bool = False) -> float:
        """Write Σ w_i·ΔW_i into ``out``: side by side along the rank axis, which is exact; returns 0.

        Raises IncompatibleError if the buffer is narrower than the ranks together; with ``cut`` the sum is then cut to it, and
        the relative residual is returned.
        """
        if not weights:
            raise UsageError("nothing to blend: expected at least one adapter with its weight")
        with self._used(list(weights)) as adapters:
            ranks = [adapter.rank for adapter in adapters]
            try:
                blend.side_by_side(adapters, list(weights.values()), out, ranks, backend=self._asked)
            except IncompatibleError:
                if not cut:
                    raise
                return blend.cut(adapters, list(weights.values()), out)
        return 0.0

    def prefetch(self, ref: str) -> None:
        """Bring ``ref`` to the device."""
        with self._used([ref]):
            pass

    def pin(self, ref: str) -> None:
        """Keep ``ref`` on the device until :meth:`unpin`."""
        self._cache.pin(self._source.version(ref))

    def unpin(self, ref: str) -> None:
        """Take a pin off. Raises UsageError if there is none."""
        self._cache.unpin(self._source.version(ref))

    def version(self, ref: str) -> str:
        """The immutable version that ``ref`` means here. Raises NotFoundError."""
        return self._source.version(ref)

    def error(self, ref: str) -> float:
        """The relative ΔW error of what is served as ``ref``, as it is stated in the bank."""
        return self._source.error(self._source.version(ref))

    def refresh(self) -> None:
        """Look at the bank again: new versions, aliases as they are now, the newest version of the basis. Pins are off.

        Raises IncompatibleError, and changes nothing, if an adapter does not fit the buffers any more.
        """
        source = self._source.refreshed()
        self._source, self._cache = source, self._cache_of(source)

    def lay_out(self, layout: SlotLayout) -> None:
        """Change what a buffer holds: the places of a model, which may have more modules and larger ranks than any adapter.

        Buffers made before do not fit any more. Raises IncompatibleError, and changes nothing, if an adapter does not fit.
        """
        if layout != self.layout:
            source = self._source.laid_out(layout)
            self._source, self._cache = source, self._cache_of(source)

    def attach(self, model: torch.nn.Module, *, slots: int = 1, adapter_name: str = "default") -> Attached:
        """Make the LoRA parameters of a PEFT model views into ``slots`` buffers: then :meth:`activate` and :meth:`using`.

        Raises as :class:`~adapterbank.serving.attached.Attached`, which is returned for a process that attaches several models.
        """
        from adapterbank.serving.attached import Attached

        self._attached = Attached(self, model, slots=slots, adapter_name=adapter_name)
        return self._attached

    def activate(self, ref: str) -> None:
        """Switch the attached model to ``ref``: one launch on the caller's current stream. UsageError without a model."""
        self._model().activate(ref)

    @contextmanager
    def using(self, ref: str) -> Iterator[torch.nn.Module]:
        """A model with ``ref`` active that nobody else switches or uses inside the block; others wait for a free slot."""
        with self._model().using(ref) as model:
            yield model

    def _model(self) -> Attached:
        if self._attached is None:
            raise UsageError("no model is attached", hint="resident.attach(model)")
        return self._attached

    def _cache_of(self, source: Source) -> Cache[Packed]:
        made: Cache[Packed] = Cache(source.load, self._placed, self._budget, self._host_budget)
        made.counted = self._cache.counted.copy()
        made.counted.adapters = made.counted.device_bytes = made.counted.host_bytes = 0
        return made

    def statistics(self) -> Statistics:
        """Counts since the start, and bytes as they are."""
        found = self._cache.counted.copy()
        with self._writes:
            found.written, found.launches = self._counted.written, self._counted.launches
            found.write_microseconds = self._counted.write_microseconds
        found.shared_bytes = self._source.shared_bytes
        return found

    def prometheus(self) -> str:
        """The statistics in Prometheus's text format."""
        return prometheus(self.statistics())

    @contextmanager
    def _used(self, refs: Sequence[str]) -> Iterator[list[Packed]]:
        source, cache = self._source, self._cache
        with ExitStack() as stack:
            yield [stack.enter_context(cache.use(source.version(ref))) for ref in refs]

    def _placed(self, packed: Packed) -> Packed:
        if self.device.type == "cpu":
            return packed
        return packed.moved(lambda tensor: tensor.to(self.device, non_blocking=True))

    def _count(self, adapters: int, seconds: float) -> None:
        with self._writes:
            self._counted.written += adapters
            self._counted.launches += 1
            self._counted.write_microseconds += 1e6 * seconds
