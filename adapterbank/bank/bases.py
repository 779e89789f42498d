"""Bases: build, measure, extend, rebuild."""

from __future__ import annotations

from collections.abc import Sequence

from adapterbank.bank.opened import Opened
from adapterbank.catalog import bases, members
from adapterbank.catalog.rows import Basis, Member
from adapterbank.ways import remove, results


class Bases(Opened):
    """Bases over versions of the bank: collections of coded adapters, or Reversible Model Merging (arXiv 2510.14163)."""

    def basis_options(
        self, refs: Sequence[str], *, gauge: str = "given", dtype: str = "float32", progress: results.Progress | None = None
    ) -> list[results.Option]:
        """Bytes and errors of an RMM basis over ``refs`` for every number of components."""
        from adapterbank.ways import basis as ways

        return ways.options(self.rooms, self._found(refs), gauge=gauge, dtype=dtype, progress=progress)

    def build_basis(
        self,
        name: str,
        refs: Sequence[str],
        *,
        components: int | None = None,
        energy: float | None = None,
        bits: float | None = None,
        max_error: float | None = None,
        budget: float | None = None,
        codec: str | None = None,
        gauge: str | None = None,
        dtype: str | None = None,
        effort: int | None = None,
        force: bool | None = None,
        progress: results.Progress | None = None,
    ) -> Basis:
        """Build a basis over ``refs`` as the next version of ``name`` and measure every member.

        Exactly one of ``components`` (p), ``energy`` (share of the variance), ``bits`` (per LoRA parameter, each member),
        ``max_error`` (relative ΔW, worst member) and ``budget`` (share of the originals' bytes, everything counted) decides
        its size. ``codec`` is ``rd``, each adapter coded with ``effort`` 0 to 3 and against others where that saves bytes; or
        ``rmm``, the published method with ``gauge`` and store ``dtype``, which components, energy, gauge or dtype mean too. A
        basis larger than its originals is built with a warning; ``force=False`` refuses it, ``force=True`` is silent. Raises
        UsageError, IncompatibleError, ErrorBoundError.
        """
        from adapterbank.ways import basis as ways
        from adapterbank.ways.sizes import Size, way_of

        size = Size(components, energy, bits, max_error, budget)
        settings = {"components": components, "energy": energy, "bits": bits, "gauge": gauge, "dtype": dtype, "effort": effort}
        way = way_of(codec, settings)
        return ways.build(self.rooms, name, self._found(refs), size, way, force=force, progress=progress)

    def bases(self, name: str | None = None) -> list[Basis]:
        """All bases, or the versions of one name."""
        with self.rooms.catalog.reading() as tx:
            return bases.listing(tx, name)

    def basis(self, ref: str) -> Basis:
        """The basis of ``b1`` (newest) or ``b1@2``."""
        with self.rooms.catalog.reading() as tx:
            return bases.get(tx, ref)

    def basis_settings(self, ref: str) -> dict[str, float]:
        """How each member of a collection (codec ``rd``) is coded: its target by name, and ``effort``; else empty."""
        from adapterbank.ways.settings import settings_of

        basis = self.basis(ref)
        if basis.codec != "rd":
            return {}
        settings = settings_of(basis)
        return {**settings.wanted, "effort": settings.effort}

    def members(self, ref: str) -> list[Member]:
        """The members of a basis with their errors, in all and by module."""
        with self.rooms.catalog.reading() as tx:
            return members.of_basis(tx, bases.get(tx, ref))

    def add_to_basis(self, basis: str, ref: str, *, force: bool = False, progress: results.Progress | None = None) -> Member:
        """Project a version on a frozen basis, or code it as the others are; ErrorBoundError above the basis's bound unless
        ``force``."""
        from adapterbank.ways import basis as ways

        return ways.add(self.rooms, self.basis(basis), self._found([ref])[0], force=force, progress=progress)

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
        """Make ``name`` anew over its members (or ``refs``) as its next version, in one transaction.

        Gauge, dtype, target and effort stay as they are. The old version goes unless something needs it. Members kept only in
        a bounded form are refused unless ``accept_generation_loss``; their error is then a bound, not a measurement. ``force``
        as in :meth:`build_basis`.
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
