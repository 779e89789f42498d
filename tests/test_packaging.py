"""What a user installs: the wheel carries the database scripts and works alone; an editable install finds them here."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAKE_A_BANK = """
import sys
from adapterbank import Bank
with Bank.open(sys.argv[1], create=True) as bank:
    assert bank.versions() == []
import adapterbank
print(adapterbank.__file__)
"""


def run_python(path: Path, *arguments: str) -> str:
    """Standard output of a Python whose own packages come after those in ``path``, run outside the repository."""
    environment = {**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=path.parent, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed") / "site"
    command = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    subprocess.run([sys.executable, *command], check=True, timeout=120)
    return target


def test_the_wheel_has_the_package_and_nothing_else_at_the_top(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"adapterbank"}


def test_the_wheel_ships_every_database_script(wheel: Path) -> None:
    scripts = {str(path.relative_to(ROOT / "migrations")) for path in (ROOT / "migrations").rglob("*.py")}
    assert any(name.startswith("versions/") for name in scripts)
    assert {f"adapterbank/_migrations/{name}" for name in scripts} <= set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_ships_the_dictionary_of_compressed_objects(wheel: Path) -> None:
    name = "adapterbank/vault/dictionary1.txt"
    assert zipfile.ZipFile(wheel).read(name) == (ROOT / name).read_bytes()


def test_a_bank_is_made_from_the_installed_wheel(installed: Path, tmp_path: Path) -> None:
    where = run_python(installed, "-c", MAKE_A_BANK, str(tmp_path / "bank"))
    assert Path(where.strip()).is_relative_to(installed)
    assert (tmp_path / "bank" / "catalog.db").is_file()


def test_the_console_script_of_the_wheel_runs(installed: Path) -> None:
    (info,) = installed.glob("*.dist-info")
    entries = PathDistribution(info).entry_points.select(group="console_scripts")
    assert {entry.name: entry.value for entry in entries} == {"adapterbank": "adapterbank.cli.main:main"}
    out = run_python(installed, str(installed / "bin" / "adapterbank"), "--version")
    assert out.strip().endswith("0.1.0")


def test_an_editable_install_finds_the_database_scripts_in_the_repository(tmp_path: Path) -> None:
    build = "import sys; from hatchling.build import build_editable; print(build_editable(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    names = zipfile.ZipFile(tmp_path / done.stdout.strip().splitlines()[-1])
    (link,) = [name for name in names.namelist() if name.endswith(".pth")]
    linked = names.read(link).decode().split()
    assert linked == [str(ROOT)]
    where = run_python(ROOT, "-c", MAKE_A_BANK, str(tmp_path / "bank"))
    assert Path(where.strip()) == ROOT / "adapterbank" / "__init__.py"
    assert (tmp_path / "bank" / "catalog.db").is_file()


def test_cli_py_in_the_repository_is_the_console_script() -> None:
    out = subprocess.run(
        [sys.executable, "cli.py", "--version"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert out.stdout.strip().endswith("0.1.0")
