"""The walls of the house, read from the imports: who may see whom, what stays light, how long a piece may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "adapterbank"
MODULE_LINES, FUNCTION_LINES = 320, 50

FOUNDATION = {"lora", "linalg", "errors", "refs", "units", "container", "locks", "disk_errors", "__version__"}
ROOMS = {"vault", "catalog", "peft_format", "rmm", "codecs", "merge", "calibration", "serving", "report"}
DOWN_THE_LINE = {  # the neighbours that a room may look at
    "codecs": {"rmm"},
    "calibration": {"merge"},
    "serving": {"codecs", "rmm"},
}

NO_TORCH = (
    "vault",
    "catalog",
    "errors",
    "refs",
    "lora.layout",
    "peft_format.header",
    "peft_format.config",
    "peft_format.source",
    "peft_format.check",
)
NO_DISK = ("lora", "linalg", "rmm", "codecs", "merge", "calibration")
MERGE_VALUES = {"artefacts", "core", "gram", "inputs", "least_squares", "options", "stack"}  # no engine, no method
NEEDS_NO_BANK = {  # literal tables that the command line prints
    "adapterbank.merge.all_methods",
    "adapterbank.merge.preparations.PREPARATIONS",
    "adapterbank.calibration.procedures.PROCEDURES",
}
HEAVY = {"torch", "peft", "transformers", "safetensors.torch"}


@dataclass(frozen=True)
class Import:
    """``target`` as a full dotted name; ``eager`` if it happens when the module is imported; ``typing`` if never."""

    target: str
    line: int
    eager: bool
    typing: bool


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    """The module's name below the package: ``lora.layout``; a package is its folder's name, the root is ``""``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path: Path) -> tuple[Import, ...]:
    """Every import statement of a file, nested ones included, with each imported name spelled out."""
    return tuple(_imports(ast.parse(path.read_text(encoding="utf-8")), path, eager=True, typing=False))


def _imports(node: ast.AST, path: Path, *, eager: bool, typing: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, eager, typing) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{path}:{child.lineno}: relative import; the house spells imports out"
            yield from (Import(f"{child.module}.{alias.name}", child.lineno, eager, typing) for alias in child.names)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for statement in child.body:
                yield from _imports(ast.Module([statement], []), path, eager=False, typing=True)
            for statement in child.orelse:
                yield from _imports(ast.Module([statement], []), path, eager=eager, typing=typing)
        else:
            lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, path, eager=eager and not lazy, typing=typing)


def within(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def internal(target: str) -> Path | None:
    """The file of an import of our own, whether it names a module or something in one."""
    parts = target.split(".")
    if parts[0] != "adapterbank":
        return None
    for end in (len(parts), len(parts) - 1):
        base = PACKAGE.joinpath(*parts[1:end])
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file() and (end > 1 or path.name == "__init__.py"):
                return path
    return None


def top(target: str) -> str:
    """``torch.nn.functional`` → ``torch``; of our own, the first name below the package."""
    parts = target.split(".")
    return parts[1] if parts[0] == "adapterbank" and len(parts) > 1 else parts[0]


def brings_in(path: Path, forbidden: set[str]) -> list[str]:
    """The chains of imports, each run when the one before is imported, by which ``path`` loads something forbidden."""
    chains, todo, seen = [], [(path, dotted(path))], {path}
    while todo:
        at, chain = todo.pop()
        for found in imports(at):
            if not found.eager:
                continue
            if any(found.target == name or found.target.startswith(f"{name}.") for name in forbidden):
                chains.append(f"{chain} → {found.target} (line {found.line})")
            target = internal(found.target)
            if target is not None and target not in seen:
                seen.add(target)
                todo.append((target, f"{chain} → {dotted(target)}"))
    return chains


def test_the_reader_of_imports_sees_nested_lazy_and_typing_imports(tmp_path: Path) -> None:
    source = "from typing import TYPE_CHECKING\nimport a.b\nif TYPE_CHECKING:\n    import c\ndef f():\n    from d import e\n"
    path = tmp_path / "sample.py"
    path.write_text(source)
    seen = {(found.target, found.eager, found.typing) for found in imports(path)}
    assert seen == {("typing.TYPE_CHECKING", True, False), ("a.b", True, False), ("c", False, True), ("d.e", False, False)}


@pytest.mark.parametrize("place", NO_TORCH)
def test_the_registry_loads_without_torch(place: str) -> None:
    chosen = [path for path in modules() if within(dotted(path), (place,))]
    assert chosen, f"no module {place}: has it moved?"
    for path in chosen:
        direct = [f"{path}:{i.line} {i.target}" for i in imports(path) if not i.typing and top(i.target) in {"torch", "peft"}]
        assert not direct
        assert not brings_in(path, HEAVY)


@pytest.mark.parametrize("place", NO_DISK)
def test_the_numerics_run_without_a_disk(place: str) -> None:
    for path in (p for p in modules() if within(dotted(p), (place,))):
        for found in imports(path):
            assert top(found.target) not in {"sqlalchemy", "alembic", "click", "pathlib"}, f"{path}:{found.line}"
        assert not brings_in(path, {"sqlalchemy", "alembic", "click"})


@pytest.mark.parametrize("place", ["bank", "cli"])
def test_the_facade_and_the_command_line_load_without_torch(place: str) -> None:
    for path in (p for p in modules() if within(dotted(p), (place,))):
        assert not brings_in(path, HEAVY)


def test_peft_is_imported_only_where_a_model_is_touched() -> None:
    eager = [f"{path}:{i.line}" for path in modules() for i in imports(path) if i.eager and top(i.target) == "peft"]
    assert not eager


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_rooms_do_not_look_at_their_neighbours(room: str) -> None:
    allowed = FOUNDATION | {room} | DOWN_THE_LINE.get(room, set())
    for path in (p for p in modules() if within(dotted(p), (room,))):
        for found in imports(path):
            if found.target.startswith("adapterbank."):
                assert top(found.target) in allowed, f"{path}:{found.line} imports {found.target}"


def test_calibration_sees_only_the_values_of_merge() -> None:
    for path in (p for p in modules() if within(dotted(p), ("calibration",))):
        for found in imports(path):
            seen = found.target.removeprefix("adapterbank.merge.").split(".")[0]
            assert seen == found.target.split(".")[0] or seen in MERGE_VALUES, f"{path}:{found.line} imports {found.target}"


def test_the_foundation_sees_no_room() -> None:
    for path in (p for p in modules() if within(dotted(p), tuple(FOUNDATION))):
        for found in imports(path):
            if found.target.startswith("adapterbank."):
                assert top(found.target) in FOUNDATION, f"{path}:{found.line} imports {found.target}"


@pytest.mark.parametrize(
    ("place", "allowed"),
    [
        ("cli", {"cli", "bank", "demo", "integrations", "report", "errors", "refs", "__version__"}),
        ("integrations", {"integrations", "bank", "ways", "serving", *FOUNDATION}),
        ("demo", {"demo", "bank", "calibration", "errors", "linalg", "refs"}),
        ("ways", {"ways", *ROOMS, *FOUNDATION}),
        ("bank", {"bank", "ways", *ROOMS, *FOUNDATION}),
    ],
)
def test_what_is_above_goes_through_the_facade(place: str, allowed: set[str]) -> None:
    for path in (p for p in modules() if within(dotted(p), (place,))):
        for found in imports(path):
            if found.target.startswith("adapterbank.") and not found.typing:
                through = top(found.target) in allowed or found.target in NEEDS_NO_BANK
                assert through, f"{path}:{found.line} imports {found.target}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_are_short_and_annotated(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MODULE_LINES
    for function in (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)):
        where = f"{path}:{function.lineno} {function.name}"
        assert (function.end_lineno or 0) - function.lineno < FUNCTION_LINES, f"{where} is too long"
        if any(ast.unparse(decorator).startswith("triton.jit") for decorator in function.decorator_list):
            continue  # Triton reads the source: arguments have no Python types
        assert function.returns is not None, f"{where} does not say what it returns"
        named = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        loose = [argument.arg for argument in named if argument.annotation is None and argument.arg not in ("self", "cls")]
        assert not loose, f"{where}: without annotation: {loose}"
