"""Stored forms: code a version on its own, look into what is stored, and have any of them back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adapterbank.bank.opened import Opened
from adapterbank.catalog import members, versions
from adapterbank.catalog.rows import Member
from adapterbank.ways import results

if TYPE_CHECKING:
    import torch

    from adapterbank.lora.adapter import Adapter


class Forms(Opened):
    """What stands for a version beside its exact bytes, each form with its error."""

    def encode(
        self,
        ref: str,
        *,
        bits: float | None = None,
        max_error: float | None = None,
        quality: str | None = None,
        codec: str = "rd",
        effort: int = 1,
        progress: results.Progress | None = None,
    ) -> results.Encoded:
        """Code a version on its own, in the place of the form that ``codec`` made of it before.

        At most one of ``bits`` (per LoRA parameter, everything counted), ``max_error`` (relative ΔW) and ``quality`` (``high``:
        error 0.1, ``balanced``: 0.35, the default, ``small``: 0.6). ``codec`` is ``rd``, entropy-coded, or ``fixed``, of fixed
        width for use from memory; ``effort`` is 0 to 3. Raises UsageError, ErrorBoundError, IncompatibleError, ConflictError
        (no exact bytes), InUseError (something needs the form that was there).
        """
        from adapterbank.ways import encode as ways

        target = ways.target_of(bits, max_error, quality)
        return ways.encode(self.rooms, self._found([ref])[0], target, codec=codec, effort=effort, progress=progress)

    def drop_forms(self, refs: Sequence[str], *, codec: str | None = None, dry_run: bool = False) -> results.Removal:
        """Remove the forms that stand alone, all or those of one codec; InUseError where nothing else is left of a version."""
        from adapterbank.ways import encode as ways

        return ways.drop_forms(self.rooms, self._found(refs), codec=codec, dry_run=dry_run)

    def forms(self, ref: str) -> list[Member]:
        """The version's forms, in bases and on their own, smallest error first."""
        with self.rooms.catalog.reading() as tx:
            return members.of_version(tx, versions.get(tx, ref))

    def form_modules(self, form: Member) -> list[results.ModuleForm]:
        """How ``form`` (of :meth:`forms` or :meth:`members`) stores each of its modules."""
        from adapterbank.ways import inspect as ways

        return ways.modules_of(self.rooms, form)

    def reconstruct(
        self,
        ref: str,
        *,
        basis: str | None = None,
        codec: str | None = None,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> Adapter:
        """The adapter from its stored form alone; without ``basis`` the one with the smallest error, of those by ``codec``."""
        from adapterbank.ways import reconstruct as ways

        chosen = self._found([ref])[0]
        return ways.reconstruct(self.rooms, chosen, basis=basis, codec=codec, device=device, dtype=dtype).adapter

    def write_reconstruction(
        self,
        ref: str,
        directory: str | Path,
        *,
        basis: str | None = None,
        codec: str | None = None,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> results.Written:
        """The same, written as a PEFT directory; names the form and the error, which counts the rounding to ``dtype``."""
        from adapterbank.ways import reconstruct as ways

        chosen = self._found([ref])[0]
        return ways.write_reconstruction(
            self.rooms, chosen, Path(directory), basis=basis, codec=codec, device=device, dtype=dtype
        )
