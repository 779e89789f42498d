"""Small adapters, bases and members for the tests of the catalog: digests are made from words, nothing has bytes."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection

from adapterbank.catalog import bases, members, versions
from adapterbank.catalog.rows import Basis, Member, NewArtefact, NewBasis, NewMember, NewVersion, Version
from adapterbank.catalog.session import Catalog
from adapterbank.lora.layout import Layout, ModuleShape

MODULES = tuple(ModuleShape(f"layers.{i}.q_proj", 8, 6, 4) for i in range(3))


def digest(*words: object) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()


def new_version(name: str = "sql", seed: object = 0, **fields: object) -> NewVersion:
    """A version whose digests follow from its name and ``seed``."""
    made = NewVersion(
        name=name,
        base_model="org/model",
        files=digest(name, seed, "files"),
        content=digest(name, seed, "content"),
        config=digest(name, seed, "config"),
        weights=digest(name, seed, "weights"),
        config_size=10,
        weights_size=1000,
        kind="lora",
        dtype="F32",
        rank=4,
        alpha=8.0,
        rslora=False,
        target_modules=("v_proj", "q_proj"),
        modules=MODULES,
        parameters=168,
    )
    return replace(made, **fields)


def add(tx: Connection, name: str = "sql", seed: object = 0, **fields: object) -> Version:
    return versions.add(tx, new_version(name, seed, **fields))


def add_basis(tx: Connection, name: str = "b1", seed: object = 0, **fields: object) -> Basis:
    made = NewBasis(name, "org/model", Layout.of(MODULES), "rmm", "svd", 2, "float32", digest(name, seed), 500, 0.1, 0.2)
    return bases.add(tx, replace(made, **fields))


def add_member(tx: Connection, basis: Basis, version: Version, error: float = 0.1, **fields: object) -> Member:
    made = NewMember(digest(basis.ref, version.ref), 50, error)
    return members.add(tx, basis, version, replace(made, **fields))


def new_artefact(*versions: Version, kind: str = "gram", seed: object = 0) -> NewArtefact:
    """Statistics of one version, coefficients over several."""
    contents = tuple(version.content for version in versions)
    family = "statistics" if len(versions) == 1 else "coefficients"
    return NewArtefact(family, kind, contents, digest(kind, seed, *contents), 40)


def fill(catalog: Catalog) -> None:
    """One row at least in every table that has a row digest."""
    from adapterbank.catalog import aliases, artefacts, base_models, levels, recipes

    with catalog.writing() as tx:
        base_models.add(tx, "org/model", fingerprint="f", quantization="nf4")
        base_models.alias(tx, "org/model", "served")
        first, second = add(tx, seed=1, tags={"task": "sql"}, metrics={"acc": 0.5}), add(tx, seed=2, parent="sql@1")
        merged = add(tx, "mix", seed=3, method="ties")
        made = artefacts.add(tx, new_artefact(first, second), [first, second])
        recipes.add(
            tx, merged, method="ties", body={"seed": 0, "artefacts": [made.object]}, residual=0.25,
            environment={"torch": "2"}, constituents=[first, second], artefacts=[made],
        )  # fmt: skip
        basis = add_basis(tx)
        member = add_member(tx, basis, second, module_errors={"layers.0.q_proj": 0.5}, absent=("layers.9.q_proj",))
        levels.set_level(tx, second, "bounded", member)
        aliases.set_alias(tx, "sql", "prod", 2)


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    """Every file under ``root`` with its size and time of change: equal snapshots mean that nothing was written."""
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(root.rglob("*"))}


def outcome(action: Callable[[], object]) -> str:
    """``"ok"``, or the error as text, for a report through a pipe."""
    try:
        action()
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "ok"
