"""What the demo does with a bank, one act each: register, list sizes, build, write, merge. Only the façade is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adapterbank.demo.encoder import BASE_MODEL
from adapterbank.demo.stages import stage
from adapterbank.errors import NotFoundError

if TYPE_CHECKING:
    from rich.console import Console

    from adapterbank.bank import Bank
    from adapterbank.catalog.rows import Basis, Member, Version
    from adapterbank.ways.results import MergedVersion, Option

STORE_DTYPE = "bfloat16"  # the adapters are bfloat16 themselves; a float32 basis of eight would be larger than they are
GAUGES = ("given", "svd")
COMPONENTS = (1, 2, 3)  # the sizes at which accuracies are compared
QUALITIES = ("high", "balanced", "small")
EFFORT = 0  # the rest of the demo is fast, too; sweeps save another per cent
MERGES: Mapping[str, Mapping[str, float]] = {"task_arithmetic": {"scale": 0.3}, "ties": {"density": 0.2}}
MERGE_RANK = 64
FILES = ("adapter_config.json", "adapter_model.safetensors")

Directories = Mapping[str, Path]  # PEFT directories by skill
Size = tuple[str, int]  # gauge and number of components


@dataclass(frozen=True, slots=True)
class Scene:
    """Where the demo works: an open bank, the folder with ``adapters/`` and ``heads/``, a place to write, a console."""

    bank: Bank
    source: Path
    scratch: Path
    console: Console

    @property
    def originals(self) -> list[Path]:
        return sorted(path.parent for path in (self.source / "adapters").glob(f"*/{FILES[0]}"))


@dataclass(frozen=True, slots=True)
class Passage:
    """One adapter on its way through the bank: as registered, as a member of the basis, and the directories written."""

    version: Version
    member: Member
    exact: bool
    exported: Path
    reconstructed: Path


@dataclass(frozen=True, slots=True)
class Coding:
    """All adapters coded on their own at one quality: their forms, and the directories that came back from them."""

    quality: str
    forms: tuple[Member, ...]
    directories: Directories


def register(scene: Scene) -> list[Version]:
    """Register every adapter of the folder under its skill's name."""
    if not scene.originals:
        raise NotFoundError(f"no adapters in {scene.source / 'adapters'}: expected a PEFT directory for each skill")
    versions = []
    with stage(scene.console, "Registering adapters") as say:
        for path in scene.originals:
            versions.append(scene.bank.register(path, name=path.name, base_model=BASE_MODEL).version)
            say(f"{len(versions)} of {len(scene.originals)}")
    return versions


def list_sizes(scene: Scene, versions: Sequence[Version]) -> dict[str, list[Option]]:
    """Every size that a basis could have, in each gauge."""
    sizes = {}
    with stage(scene.console, "Sizes that a basis could have") as say:
        for gauge in GAUGES:
            say(f"gauge {gauge}")
            sizes[gauge] = scene.bank.basis_options(_refs(versions), gauge=gauge, dtype=STORE_DTYPE)
    return sizes


def build(scene: Scene, name: str, versions: Sequence[Version], size: Size) -> Basis:
    """Build a basis over all versions."""
    gauge, components = size
    return scene.bank.build_basis(name, _refs(versions), components=components, gauge=gauge, dtype=STORE_DTYPE)


def write_both(scene: Scene, versions: Sequence[Version], basis: Basis) -> list[Passage]:
    """Write every adapter twice: its exact bytes, and its reconstruction from the basis."""
    members = {member.version: member for member in scene.bank.members(basis.ref)}
    with stage(scene.console, "Writing originals and reconstructions"):
        rebuilt = write_reconstructions(scene, versions, basis)
        passages = []
        for source, version in zip(scene.originals, versions, strict=True):
            exported = scene.scratch / "exported" / version.name
            scene.bank.export(version.ref, exported)
            exact = all((source / name).read_bytes() == (exported / name).read_bytes() for name in FILES)
            passages.append(Passage(version, members[version.ref], exact, exported, rebuilt[version.name]))
    return passages


def write_reconstructions(scene: Scene, versions: Sequence[Version], basis: Basis) -> Directories:
    """Write every adapter as it comes back from the basis."""
    folder = scene.scratch / "reconstructed" / basis.ref
    for version in versions:
        scene.bank.write_reconstruction(version.ref, folder / version.name, basis=basis.ref)
    return {version.name: folder / version.name for version in versions}


def write_other_sizes(
    scene: Scene, versions: Sequence[Version], options: Mapping[str, Sequence[Option]], done: Size
) -> dict[Size, Directories]:
    """Reconstructions from bases of other sizes and gauges, for comparison; none that is larger than its originals."""
    fitting = [(gauge, option.components) for gauge, found in options.items() for option in found if option.ratio <= 1]
    sizes = [size for size in fitting if size[1] in COMPONENTS and size != done]
    written: dict[Size, Directories] = {}
    with stage(scene.console, "Building bases of other sizes") as say:
        for size in sizes:
            basis = build(scene, f"{size[0]}-{size[1]}", versions, size)
            written[size] = write_reconstructions(scene, versions, basis)
            say(f"{len(written)} of {len(sizes)}")
    return written


def encode(scene: Scene, versions: Sequence[Version]) -> list[Coding]:
    """Code every adapter on its own at each quality, and write what comes back."""
    made = []
    with stage(scene.console, "Coding every adapter on its own") as say:
        for quality in QUALITIES:
            forms, folder = [], scene.scratch / "coded" / quality
            for number, version in enumerate(versions, start=1):
                say(f"quality {quality}, {number} of {len(versions)}")
                forms.append(scene.bank.encode(version.ref, quality=quality, effort=EFFORT).form)
                scene.bank.write_reconstruction(version.ref, folder / version.name, codec="rd")
            made.append(Coding(quality, tuple(forms), {version.name: folder / version.name for version in versions}))
        say(f"qualities {', '.join(QUALITIES)}")
    return made


def merge(scene: Scene, versions: Sequence[Version]) -> dict[str, MergedVersion]:
    """Merge all versions into one by each method and export it to ``merged/<method>``."""
    merges = {}
    for method, options in MERGES.items():
        with stage(scene.console, f"Merging all with {method}"):
            weights = dict.fromkeys(_refs(versions), 1.0)
            merges[method] = scene.bank.merge(method, weights, name=f"all-{method}", rank=MERGE_RANK, options=dict(options))
            scene.bank.export(merges[method].version.ref, merged_folder(scene, method))
    return merges


def merged_folder(scene: Scene, method: str) -> Path:
    """Where a merge was exported to."""
    return scene.scratch / "merged" / method


def _refs(versions: Sequence[Version]) -> list[str]:
    return [version.ref for version in versions]
