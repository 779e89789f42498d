"""Registering, finding and labelling adapters, and their bytes back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from adapterbank.bank.opened import Opened
from adapterbank.catalog import aliases, base_models, edges, labels, search, versions
from adapterbank.catalog.rows import Alias, AliasEvent, BaseModel, Edge, Version
from adapterbank.errors import UsageError
from adapterbank.ways import export, register, results


class Adapters(Opened):
    """The registry: adapters, their versions, aliases and labels, and base models."""

    def register(
        self,
        directory: str | Path,
        *,
        name: str,
        base_model: str | None = None,
        alias: str | None = None,
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        note: str | None = None,
        parent: str | None = None,
        force: bool = False,
        servers: Sequence[str] = (),
    ) -> results.Registered:
        """Register a PEFT directory as the next version of ``name``; the same files again give the same version.

        ``base_model`` defaults to the configuration's. ``force`` registers equal content in other bytes. ``servers`` (``vllm``,
        ``sglang``, ``lorax``, ``peft``) must be able to serve it; what they have to be started with is told. Raises
        RefusedInputError with every problem found, ConflictError, StorageError; then nothing is left behind.
        """
        entry = register.Entry(name, base_model, alias, parent, tags or {}, metrics or {}, note, force, tuple(servers))
        return register.register(self.rooms, Path(directory), entry)

    def register_many(
        self,
        items: Iterable[tuple[str | Path, str]],
        *,
        base_model: str | None = None,
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        note: str | None = None,
        force: bool = False,
        servers: Sequence[str] = (),
    ) -> Iterator[results.Outcome]:
        """Register (directory, name) pairs, one transaction each; refused ones are told and do not stop the others."""
        common = register.Common(base_model, tags or {}, metrics or {}, note, force, tuple(servers))
        return register.register_many(self.rooms, ((Path(path), name) for path, name in items), common)

    def find(self, ref: str) -> Version:
        """The version of ``name``, ``name@3``, ``name@alias`` or ``sha256:prefix``. Raises NotFoundError, ConflictError."""
        with self.rooms.catalog.reading() as tx:
            return versions.get(tx, ref)

    def versions(
        self,
        *,
        where: str | None = None,
        names: Sequence[str] | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> list[Version]:
        """Versions that match a search expression such as ``rank=16 and base~llama and acc>0.8``."""
        with self.rooms.catalog.reading() as tx:
            return search.versions(tx, where=where, names=names, sort=sort, limit=limit)

    def select(self, refs: Sequence[str], where: str | None = None) -> list[Version]:
        """The versions of ``refs`` and, with ``where``, those that match it; each once, in this order."""
        found = self._found(refs)
        found += self.versions(where=where) if where is not None else []
        if not found:
            raise UsageError(
                "no versions selected: give references, or an expression that matches some", hint="adapterbank list"
            )
        return list({version.id: version for version in found}.values())

    def history(self, name: str) -> results.History:
        """Every version of ``name``, oldest first, and every move of its aliases."""
        with self.rooms.catalog.reading() as tx:
            return results.History(name, tuple(versions.of_name(tx, name)), tuple(aliases.history(tx, name)))

    def set_alias(self, name: str, alias: str, version: int, *, expect: int | Literal["any"] | None = "any") -> AliasEvent:
        """Point ``name@alias`` to a version; with ``expect`` only if it points there now (None: does not exist)."""
        with self.rooms.catalog.writing() as tx:
            return aliases.set_alias(tx, name, alias, version, expect=expect)

    def list_aliases(self, name: str | None = None) -> list[Alias]:
        """All aliases, or those of one name."""
        with self.rooms.catalog.reading() as tx:
            return aliases.listing(tx, name)

    def remove_alias(self, name: str, alias: str, *, dry_run: bool = False) -> AliasEvent:
        """Remove ``name@alias``; its history stays."""
        with self.rooms.catalog.writing(dry_run=dry_run) as tx:
            return aliases.remove(tx, name, alias)

    def label(
        self,
        ref: str,
        *,
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        note: str | None = None,
        untag: Sequence[str] = (),
    ) -> Version:
        """Add or replace tags, metrics and the note of a version; remove the tags ``untag``."""
        with self.rooms.catalog.writing() as tx:
            return labels.label(tx, versions.get(tx, ref), tags=tags, metrics=metrics, note=note, untag=untag)

    def export(self, ref: str, directory: str | Path, *, bounded: bool = False) -> results.Exported:
        """Write the registered bytes; for a compacted version raise BoundedOnlyError, or with ``bounded`` approximate."""
        return export.export(self.rooms, self.find(ref), Path(directory), bounded=bounded)

    def dependents(self, ref: str) -> list[Edge]:
        """What needs this version: merges that can be reverted to it, aliases that point to it."""
        with self.rooms.catalog.reading() as tx:
            return edges.dependents(tx, versions.get(tx, ref).id)

    def base_models(self) -> list[BaseModel]:
        """All base models with their aliases."""
        with self.rooms.catalog.reading() as tx:
            return base_models.listing(tx)

    def add_base_model(self, name: str, *, fingerprint: str | None = None, quantization: str | None = None) -> BaseModel:
        """Add a base model by its canonical id."""
        with self.rooms.catalog.writing() as tx:
            return base_models.add(tx, name, fingerprint=fingerprint, quantization=quantization)

    def alias_base_model(self, name: str, alias: str) -> BaseModel:
        """Say that ``alias`` (a hub id, a path, a served name) means the base model ``name``."""
        with self.rooms.catalog.writing() as tx:
            return base_models.alias(tx, name, alias)

    def join_base_models(self, name: str, other: str) -> BaseModel:
        """Say that two base models of the bank are one: what belongs to ``other`` goes over to ``name``."""
        with self.rooms.catalog.writing() as tx:
            return base_models.join(tx, name, other)
