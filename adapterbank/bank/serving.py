"""Adapters resident on a device, for serving code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from adapterbank.bank.opened import Opened
from adapterbank.errors import UsageError
from adapterbank.units import size

if TYPE_CHECKING:
    from adapterbank.serving.resident import Resident

DTYPES = ("float32", "float16", "bfloat16")


class Serving(Opened):
    """Any adapter of the bank in a buffer on the device, in microseconds."""

    def serving(
        self,
        refs: Sequence[str] = (),
        *,
        basis: str | None = None,
        form: str = "auto",
        device: str = "cpu",
        dtype: str = "float32",
        store: str | None = None,
        rank: int | None = None,
        budget: str | int = "8GiB",
        host_budget: str | int = 0,
        backend: str = "auto",
        shard: tuple[int, int] | None = None,
        plan: Mapping[str, Literal["column", "row"]] | None = None,
    ) -> Resident:
        """Load ``refs``, or all members of ``basis``, for buffers of ``dtype`` on ``device``.

        ``form``: ``rmm`` (coefficients over the basis), ``fixed`` (the fixed-width form), ``raw`` (the factors), or ``auto``,
        the first of these that a version has. ``store`` is how a basis or raw factors are resident: ``float32``, ``bfloat16``,
        ``float16``, ``int8`` or ``int4`` (rows with a scale each). ``rank`` is that of every module in a buffer (by default the
        largest that it has). ``budget`` bounds the bytes of adapters on the device, ``host_budget`` those in host memory; the
        others stay on the disk. ``backend``: ``auto``, ``reference``, ``compiled``, ``triton``. ``shard`` is (worker, workers)
        of tensor parallelism; ``plan`` says by pattern of the module's name whether its weight is split by ``column`` (rows of
        B) or ``row`` (rows of A), by default as for a Llama.

        Raises NotFoundError, IncompatibleError, UsageError; PlatformError for a device or backend that cannot run here.
        """
        import torch

        from adapterbank.serving.device import device_of
        from adapterbank.serving.resident import Resident
        from adapterbank.serving.slots import LLAMA
        from adapterbank.ways.chosen import Wanted
        from adapterbank.ways.serve import BankSource

        if isinstance(refs, str):
            raise UsageError(f"got the text {refs!r} where a list of references is expected: [{refs!r}]")
        if dtype not in DTYPES:
            raise UsageError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
        place, room, host_room = device_of(device), size(budget, "budget"), size(host_budget, "host_budget")
        wanted = Wanted(tuple(refs), basis, form, store, rank, shard, LLAMA if plan is None else plan, str(place))
        return Resident(
            BankSource.of(self.rooms, wanted), device=place, dtype=getattr(torch, dtype), budget=room, host_budget=host_room,
            backend=backend,
        )  # fmt: skip
