"""register: a PEFT directory becomes an immutable version. Bytes first, row second; refused input leaves no trace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from adapterbank.catalog import aliases, base_models, labels, levels, recipes, versions
from adapterbank.catalog.rows import Artefact, NewVersion, Version
from adapterbank.errors import AdapterBankError, ConflictError, Problem, RefusedInputError
from adapterbank.peft_format import servers
from adapterbank.peft_format.check import Inspection, inspect
from adapterbank.peft_format.refusal import refusal
from adapterbank.peft_format.source import open_directory
from adapterbank.refs import check_alias, check_name
from adapterbank.vault.objects import Vault
from adapterbank.vault.staging import Staged
from adapterbank.ways.results import Outcome, Registered
from adapterbank.ways.rooms import Rooms


@dataclass(frozen=True, slots=True)
class Entry:
    """What the caller says about an adapter; ``force`` registers equal content in other bytes as a version of its own, and
    ``servers`` are those that it must be able to be served by."""

    name: str
    base_model: str | None = None
    alias: str | None = None
    parent: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    note: str | None = None
    force: bool = False
    servers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.alias is not None:
            check_alias(self.alias)


@dataclass(frozen=True, slots=True)
class Common:
    """What the caller says about all adapters of a bulk registration."""

    base_model: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    note: str | None = None
    force: bool = False
    servers: tuple[str, ...] = ()

    def entry(self, name: str) -> Entry:
        """The entry of one of them. Raises UsageError for a bad name."""
        return Entry(name, self.base_model, None, None, self.tags, self.metrics, self.note, self.force, self.servers)


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a merge comes from: the row of its recipe, the versions it needs for ``revert``, and what it used beside them."""

    method: str
    body: Mapping[str, Any]
    residual: float
    environment: Mapping[str, str]
    constituents: Sequence[Version]
    artefacts: Sequence[Artefact] = ()


def files_digest(config: str, weights: str) -> str:
    """The digest of a version's exact bytes, from the SHA-256 of its two files."""
    return sha256(f"adapter_config.json:{config}\nadapter_model.safetensors:{weights}\n".encode()).hexdigest()


def register(rooms: Rooms, directory: Path, entry: Entry) -> Registered:
    """Register ``directory``; the same files again give the same version, status ``unchanged`` (or ``restored``).

    Raises RefusedInputError with every problem, ConflictError for equal content in other bytes, StorageError.
    """
    with open_directory(directory) as source, rooms.vault.stage() as staged:
        staged.copy_from(source.weights, source.weights_size)
        inspection, weights = _inspect(rooms.vault, source.config, staged)
        inspection = _for_servers(inspection, entry.servers)
        done = store(rooms, entry, source.config, staged, weights, inspection)
    return Registered(done.version, done.status, inspection.problems, source.not_kept)


def store(
    rooms: Rooms,
    entry: Entry,
    config: bytes,
    staged: Staged,
    weights: str,
    inspection: Inspection,
    lineage: Lineage | None = None,
) -> Registered:
    """Keep inspected bytes and add their row, and with ``lineage`` the recipe: the tail of ``register``, shared with merges.

    The objects get their names inside the transaction of the rows: what the rows refuse is refused before an object is
    kept, and what is committed has its bytes on the disk. Only small writes happen under the write lock: new bytes are
    made durable before, and an object that is there already is checked before. That also repairs a damaged one, and
    gives a compacted version its exact bytes back.
    """
    config_digest = sha256(config).hexdigest()
    digests = (config_digest, weights, files_digest(config_digest, weights))
    sizes = (len(config), staged.size)
    with rooms.vault.holding():
        known = rooms.vault.exists(weights)
        if known:
            rooms.vault.keep(staged, weights)
        else:
            staged.seal()
        with rooms.catalog.writing() as tx:
            done = _record(rooms, tx, entry, inspection, digests, sizes, lineage)
            rooms.vault.put_bytes(config)
            if not known and done.version.level == "original":
                rooms.vault.keep(staged, weights)
            return done


def register_many(rooms: Rooms, items: Iterable[tuple[Path, str]], common: Common) -> Iterator[Outcome]:
    """Register one (directory, name) after another, one transaction each; a refused one does not stop the others.

    Running it again over the same directories goes on where it stopped: what is there already is ``unchanged``.
    """
    for path, name in items:
        try:
            done = register(rooms, path, common.entry(name))
        except AdapterBankError as error:
            yield Outcome(str(path), name, "refused", code=error.code, message=error.message)
        else:
            yield Outcome(str(path), name, done.status, ref=done.version.ref)


def _inspect(vault: Vault, config: bytes, staged: Staged) -> tuple[Inspection, str]:
    """Inspect the staged copy beside hashing and syncing it: judged is what will be kept, whoever changes the source."""
    with ThreadPoolExecutor(1) as pool, staged.view() as mapped:
        digest = pool.submit(_settle, vault, staged)
        return inspect(config, mapped.buffer), digest.result()


def _for_servers(inspection: Inspection, names: Sequence[str]) -> Inspection:
    """The inspection with what these servers would say at request time. Raises RefusedInputError if one cannot serve it."""
    facts = inspection.facts
    found = [
        problem
        for name in names
        for problem in servers.problems(
            name, rank=facts.rank, modules=facts.modules, carried=facts.carried, obstacle=facts.basis_reason
        )
    ]
    if any(problem.severity == "error" for problem in found):
        raise refusal([*inspection.problems, *found])
    return replace(inspection, problems=(*inspection.problems, *found))


def _settle(vault: Vault, staged: Staged) -> str:
    """The digest of the staged bytes, which are durable afterwards unless the vault has them already."""
    digest = staged.digest()
    if not vault.exists(digest):
        staged.seal()
    return digest


def _record(
    rooms: Rooms,
    tx: Connection,
    entry: Entry,
    inspection: Inspection,
    digests: tuple[str, str, str],
    sizes: tuple[int, int],
    lineage: Lineage | None,
) -> Registered:
    """The version of these files: the one that has them already, else a new one; then labels and alias."""
    known = versions.find_by_files(tx, digests[2], entry.name)
    if known is None:
        version = versions.add(tx, _new_version(tx, entry, inspection, digests, sizes, lineage))
        if lineage is not None:
            recipes.add(
                tx, version, method=lineage.method, body=lineage.body, residual=lineage.residual,
                environment=lineage.environment, constituents=lineage.constituents, artefacts=lineage.artefacts,
            )  # fmt: skip
        return Registered(_alias(tx, version, entry), "registered")
    _same_base_model(tx, known, entry)
    status = "unchanged" if known.level == "original" or _is_coded_well(rooms, tx, known) else "restored"
    if status == "restored":
        known = levels.set_level(tx, known, "original")
    if entry.tags or entry.metrics or entry.note is not None:
        known = labels.label(tx, known, tags=entry.tags, metrics=entry.metrics, note=entry.note)
    return Registered(_alias(tx, known, entry), status)


def _is_coded_well(rooms: Rooms, tx: Connection, version: Version) -> bool:
    """Whether ``version`` is at level exact and its coded object, with the bytes it refers to, is intact: then the plain bytes
    are not needed, else they repair it."""
    needed: Version | None = version
    while needed is not None:
        form = levels.exact_form(tx, needed)
        digest = needed.weights if form is None else form.object
        if needed.level == "bounded" or rooms.vault.check(digest) is not None:
            return False
        needed = versions.get(tx, form.reference) if form is not None and form.reference is not None else None
    return True


def _new_version(
    tx: Connection,
    entry: Entry,
    inspection: Inspection,
    digests: tuple[str, str, str],
    sizes: tuple[int, int],
    lineage: Lineage | None,
) -> NewVersion:
    facts = inspection.facts
    base_model = entry.base_model or facts.base_model
    if not base_model:
        problem = Problem("base_model_missing", "base_model_name_or_path is empty", "adapter_config.json")
        message = f"{entry.name}: the configuration names no base model"
        raise RefusedInputError(message, [problem], hint="say which with --base-model ID")
    twin = versions.find_by_content(tx, inspection.content, entry.name)
    if twin is not None and not entry.force:
        raise ConflictError(
            f"{twin.ref} has the same tensors and effective configuration in other bytes; nothing was registered",
            hint="use that version, or register these bytes as a version of their own with --force",
        )
    config, weights, files = digests
    return NewVersion(
        name=entry.name, base_model=base_model, files=files, content=inspection.content,
        config=config, weights=weights, config_size=sizes[0], weights_size=sizes[1],
        kind=facts.kind, dtype=facts.dtype, rank=facts.rank, alpha=facts.alpha, rslora=facts.rslora,
        target_modules=facts.target_modules, modules=facts.modules, parameters=facts.parameters,
        parent=entry.parent, note=entry.note, tags=entry.tags, metrics=entry.metrics, carried=facts.carried,
        obstacle=facts.basis_reason,
        naming=facts.naming,
        method=lineage.method if lineage else None,
    )  # fmt: skip


def _same_base_model(tx: Connection, known: Version, entry: Entry) -> None:
    """Raise ConflictError if the caller names another base model than the one that these files were registered on."""
    if entry.base_model is None:
        return
    named = base_models.find(tx, entry.base_model)
    if named is None or named.name != known.base_model:
        raise ConflictError(
            f"{known.ref} has these very files on the base model {known.base_model}, not on {entry.base_model}",
            hint="if these name one model, say so with adapterbank model alias or join; else register under another name",
        )


def _alias(tx: Connection, version: Version, entry: Entry) -> Version:
    if entry.alias is None:
        return version
    aliases.set_alias(tx, version.name, entry.alias, version.number)
    return versions.get(tx, version.ref)
