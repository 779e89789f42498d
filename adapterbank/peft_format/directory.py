"""Write a directory all or nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from mmap import mmap
from pathlib import Path

from adapterbank.errors import ConflictError, StorageError

Contents = bytes | bytearray | mmap


def write_directory(dest: Path, files: Mapping[str, Contents]) -> None:
    """Write ``files`` (contents by plain name) as the directory ``dest``: beside it first, synced, then renamed.

    ConflictError if ``dest`` exists and is not an empty directory; StorageError if the disk is full or fails, and then
    nothing is left behind.
    """
    dest = Path(dest).absolute()
    if dest.is_symlink() or (dest.exists() and not (dest.is_dir() and not any(dest.iterdir()))):
        raise _occupied(dest)
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{dest.name}.", suffix=".partial", dir=dest.parent))
    except OSError as reason:
        file = next((folder for folder in dest.parents if folder.exists() and not folder.is_dir()), None)
        hint = "check that the folder exists and who may write into it" if file is None else f"{file} is a file: name a folder"
        raise StorageError(f"{dest} cannot be written: {reason.strerror}", hint=hint) from None
    try:
        for name, data in files.items():
            _write(temporary / name, data)
        temporary.chmod(0o777 & ~_umask())
        _sync(temporary)
        temporary.rename(dest)  # replaces an empty directory only
        _sync(dest.parent)
    except OSError as reason:
        shutil.rmtree(temporary, ignore_errors=True)
        if dest.is_dir() and any(dest.iterdir()):
            raise _occupied(dest) from None
        raise StorageError(f"{dest} cannot be written: {reason.strerror}") from None
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _occupied(dest: Path) -> ConflictError:
    return ConflictError(f"{dest} exists and is not an empty directory", hint="name a directory that does not exist yet")


def _write(path: Path, data: Contents) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
