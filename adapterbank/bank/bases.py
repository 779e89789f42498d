"""Bases: fit, measure, extend, rebuild; and any member back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adapterbank.bank.opened import Opened
from adapterbank.catalog import bases, members
from adapterbank.catalog.rows import Basis, Member
from adapterbank.ways import remove, results

if TYPE_CHECKING:
    import torch

    from adapterbank.lora.adapter import Adapter


class Bases(Opened):
    """Reversible Model Merging bases (arXiv 2510.14163) over versions of the bank."""

    def basis_options(
        self, refs: Sequence[str], *, gauge: str = "given", dtype: str = "float32", progress: results.Progress | None = None
    ) -> list[results.Option]:
        """Bytes and errors of a basis over ``refs`` for every number of components."""
        from adapterbank.ways import basis as ways

        return ways.options(self.rooms, self._found(refs), gauge=gauge, dtype=dtype, progress=progress)

    def build_basis(
        self,
        name: str,
        refs: Sequence[str],
        *,
        components: int | None = None,
        energy: float | None = None,
        max_error: float | None = None,
        budget: float | None = None,
        gauge: str = "given",
        dtype: str = "float32",
        force: bool | None = None,
        progress: results.Progress | None = None,
    ) -> Basis:
        """Fit an RMM basis over ``refs`` as the next version of ``name`` and measure every member.

        Exactly one of ``components`` (p), ``energy`` (share of the variance), ``max_error`` (relative ΔW, worst member) and
        ``budget`` (share of the originals' bytes, basis counted) decides its size. A basis larger than its originals is
        built with a warning; ``force=False`` refuses it, ``force=True`` is silent. Raises UsageError, IncompatibleError,
        ErrorBoundError.
        """
        from adapterbank.ways import basis as ways

        size = ways.Size(components, energy, max_error, budget)
        return ways.build(self.rooms, name, self._found(refs), size, gauge=gauge, dtype=dtype, force=force, progress=progress)

    def bases(self, name: str | None = None) -> list[Basis]:
        """All bases, or the versions of one name."""
        with self.rooms.catalog.reading() as tx:
            return bases.listing(tx, name)

    def basis(self, ref: str) -> Basis:
        """The basis of ``b1`` (newest) or ``b1@2``."""
        with self.rooms.catalog.reading() as tx:
            return bases.get(tx, ref)

    def members(self, ref: str) -> list[Member]:
        """The members of a basis with their errors, in all and by module."""
        with self.rooms.catalog.reading() as tx:
            return members.of_basis(tx, bases.get(tx, ref))

    def add_to_basis(self, basis: str, ref: str, *, force: bool = False) -> Member:
        """Project a version on a frozen basis; ErrorBoundError above the basis's worst error unless ``force``."""
        from adapterbank.ways import basis as ways

        return ways.add(self.rooms, self.basis(basis), self._found([ref])[0], force=force)

    def rebuild_basis(
        self,
        name: str,
        *,
        refs: Sequence[str] | None = None,
        components: int | None = None,
        accept_generation_loss: bool = False,
        force: bool | None = None,
        progress: results.Progress | None = None,
    ) -> results.Rebuilt:
        """Fit ``name`` anew over its members (or ``refs``) as its next version, in one transaction.

        The old version goes unless something needs it. Members kept only in a bounded form are refused unless
        ``accept_generation_loss``; their error is then a bound, not a measurement. ``force`` as in :meth:`build_basis`.
        """
        from adapterbank.ways import rebuild as ways

        chosen = None if refs is None else self._found(refs)
        return ways.rebuild(
            self.rooms,
            self.basis(name),
            chosen,
            components,
            accept_generation_loss=accept_generation_loss,
            force=force,
            progress=progress,
        )

    def remove_basis(self, basis: str, *, dry_run: bool = False) -> results.Removal:
        """Remove a basis and its members; InUseError lists what needs it."""
        return remove.remove_basis(self.rooms, self.basis(basis), dry_run=dry_run)

    def reconstruct(
        self, ref: str, *, basis: str | None = None, device: str = "cpu", dtype: torch.dtype | None = None
    ) -> Adapter:
        """The adapter from mean, components and coefficients alone; without ``basis`` the form with the smallest error."""
        from adapterbank.ways import reconstruct as ways

        return ways.reconstruct(self.rooms, self._found([ref])[0], basis=basis, device=device, dtype=dtype).adapter

    def write_reconstruction(
        self, ref: str, directory: str | Path, *, basis: str | None = None, device: str = "cpu", dtype: str = "float32"
    ) -> results.Written:
        """The same, written as a PEFT directory; names the basis and the error, which counts the rounding to ``dtype``."""
        from adapterbank.ways import reconstruct as ways

        return ways.write_reconstruction(
            self.rooms, self._found([ref])[0], Path(directory), basis=basis, device=device, dtype=dtype
        )
