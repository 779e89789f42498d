"""A resident bank: any of its adapters in a buffer with one call, from what is on the device."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapterbank.errors import IncompatibleError, UsageError
from adapterbank.lora.adapter import Factors
from adapterbank.serving import blend, kernels, peft_words
from adapterbank.serving.apply import apply, check
from adapterbank.serving.device import device_of
from adapterbank.serving.kernels.reference import Packed
from adapterbank.serving.pool import Pool
from adapterbank.serving.slots import SlotLayout
from adapterbank.serving.source import Key, Source
from adapterbank.serving.statistics import Statistics, prometheus

if TYPE_CHECKING:
    from adapterbank.serving.attached import Attached


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
        """Raises UsageError for a backend that is none, PlatformError for a device or a backend that is not to be had here."""
        self.device, self.dtype = device_of(device), dtype
        self.backend, self._asked = kernels.backend_for(backend, self.device), backend
        kernels.current(backend, self.device)  # compiles meanwhile
        self._pool = Pool(self.device, budget, host_budget)
        self.now = self._pool.numbered(source)
        self._pool.residents.add(self)
        self._attached: Attached | None = None

    @property
    def layout(self) -> SlotLayout:
        """The places of a buffer."""
        return self.now.source.layout

    @property
    def refs(self) -> tuple[str, ...]:
        """The versions that can be asked for."""
        return self.now.source.refs

    def buffer(self) -> Tensor:
        """A buffer of zeros for :meth:`write`, which can be written anywhere, wherever it was made."""
        with torch.inference_mode(False):
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
        now = self.now
        self._write([now.key(ref) for ref in refs], outs)

    def write_key(self, key: Key, out: Tensor) -> None:
        """:meth:`write` what a reference meant when :meth:`key` was asked."""
        self._write([key], [out])

    def _write(self, keys: Sequence[Key], outs: Sequence[Tensor]) -> None:
        for out in outs:
            self.layout.check_target(out, self.device)
        with self._pool.use(keys) as adapters, torch.no_grad():
            began = perf_counter()
            kernels.write(adapters, outs, backend=self._asked)
            self._pool.wrote(len(keys), perf_counter() - began)

    def factors(self, ref: str) -> dict[str, Factors]:
        """The factors of ``ref`` by module, in a buffer of their own."""
        out = self.buffer()
        self.write(ref, out)
        return self.layout.views(out)

    def state_dict(self, ref: str) -> dict[str, Tensor]:
        """The tensors of ``ref`` under PEFT's keys, of the buffer's rank and scaling 1, for ``set_peft_model_state_dict``."""
        return peft_words.state_dict(self.factors(ref))

    def lora_config(self, ref: str) -> Any:
        """The ``peft.LoraConfig`` of :meth:`state_dict`: α = r, the same shapes for every adapter, so that each can be swapped
        for each; base model and task are those that ``ref`` was registered with."""
        key = self.key(ref)
        return peft_words.lora_config(self.layout, key.source.lora_config(key.version))

    def apply(self, module: str, x: Tensor, refs: Sequence[str]) -> Tensor:
        """ΔW_i·x_i ``[m, d_out]`` for ``x [m, d_in]``, row i by the adapter ``refs[i]``, without writing any of them.

        Raises NotFoundError for an adapter, UsageError for a module or a shape that the layout does not have.
        """
        place = next((i for i, place in enumerate(self.layout) if place.whole.name == module), None)
        if place is None:
            raise UsageError(f"the layout has no module {module!r}: it has {len(self.layout.places)} others")
        if not refs:
            check(x, self.layout.places[place].shape, 0)
            return x.new_zeros(0, self.layout.places[place].shape.d_out)
        names = list(dict.fromkeys(refs))
        with self._used(names) as adapters:
            return apply(dict(zip(names, adapters, strict=True)), place, x, refs)

    def blend(self, weights: Mapping[str, float], out: Tensor, *, cut: bool = False) -> float:
        """Write Σ w_i·ΔW_i into ``out``: side by side along the rank axis, which is exact; returns 0.

        Raises IncompatibleError if the buffer is narrower than the ranks together; with ``cut`` the sum is then cut to it, and
        the relative residual is returned. Raises UsageError for weights or a buffer that make no sense.
        """
        blend.check(weights)
        self.layout.check_target(out, self.device)
        with self._used(list(weights)) as adapters, torch.no_grad():
            ranks = [adapter.rank for adapter in adapters]
            try:
                blend.side_by_side(adapters, list(weights.values()), out, ranks, backend=self._asked)
            except IncompatibleError:
                if not cut:
                    raise
                return blend.cut(adapters, list(weights.values()), out)
        return 0.0

    def prefetch(self, ref: str) -> None:
        """Bring ``ref`` to the device: for the model that was attached last, if there is one, else for buffers."""
        with self._wanted()._used([ref]):
            pass

    def pin(self, ref: str) -> None:
        """Keep ``ref`` on the device, as :meth:`prefetch` brings it there, until :meth:`unpin`."""
        self._pool.cache.pin(self._wanted().key(ref))

    def unpin(self, ref: str) -> None:
        """Take a pin off. Raises UsageError if there is none."""
        self._pool.cache.unpin(self._wanted().key(ref))

    def key(self, ref: str) -> Key:
        """What ``ref`` means here, for :meth:`write_key`. Raises NotFoundError."""
        return self.now.key(ref)

    def version(self, ref: str) -> str:
        """The immutable version that ``ref`` means here. Raises NotFoundError."""
        return self.now.source.version(ref)

    def error(self, ref: str) -> float:
        """The relative ΔW error of what is served as ``ref``, as it is stated in the bank."""
        key = self.key(ref)
        return key.source.error(key.version)

    def refresh(self) -> None:
        """Look at the bank again: new versions, aliases as they are now, the newest version of the basis. Pins are off.

        Attached models get it at their next switch. Raises IncompatibleError, and changes nothing, if an adapter does not fit
        the buffers any more, or belongs to another base model.
        """
        with self._pool.changing:
            self._pool.refresh(self.now.source)

    def laid_out(self, layout: SlotLayout) -> Resident:
        """The same adapters for buffers of another layout, such as the places of a model, which may have more modules and
        larger ranks than any adapter: within the same budget, and as they are here until either is refreshed.

        Raises IncompatibleError if an adapter does not fit, or this is a shard.
        """
        made = copy.copy(self)
        made._attached = None
        with self._pool.changing:
            same = next((each for each in self._pool.residents if each.layout == layout), None)
            made.now = self._pool.numbered(self.now.source.laid_out(layout)) if same is None else same.now
            self._pool.residents.add(made)
        return made

    def attach(self, model: torch.nn.Module, *, slots: int = 1, adapter_name: str = "default") -> Attached:
        """Make the LoRA parameters of a PEFT model views into ``slots`` buffers: then :meth:`activate` and :meth:`using`.

        Raises as :class:`~adapterbank.serving.attached.Attached`, which is returned for a process that attaches several models:
        here the last one counts.
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

    def _wanted(self) -> Resident:
        return self if self._attached is None else self._attached.resident

    def statistics(self) -> Statistics:
        """Counts since the start, and bytes as they are, of all layouts."""
        found = self._pool.statistics()
        found.shared_bytes = self.now.source.shared_bytes
        return found

    def prometheus(self) -> str:
        """The statistics in Prometheus's text format."""
        return prometheus(self.statistics())

    @contextmanager
    def _used(self, refs: Sequence[str]) -> Iterator[list[Packed]]:
        now = self.now
        with self._pool.use([now.key(ref) for ref in refs]) as adapters:
            yield adapters
