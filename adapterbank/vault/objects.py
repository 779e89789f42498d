"""The vault: put, keep, open, check and delete objects by their digest."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from io import FileIO
from pathlib import Path

from adapterbank.disk_errors import storage_errors
from adapterbank.errors import IntegrityError, NotFoundError, Problem, StorageError, UsageError
from adapterbank.locks import hold, is_held_exclusively
from adapterbank.vault import durable
from adapterbank.vault.address import digest_of, is_digest, place
from adapterbank.vault.mapped import Mapped
from adapterbank.vault.staging import Litter, Staged, find_litter, stage

_VERIFY = "run adapterbank verify to see what needs it; registering the original again repairs an object"


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that is in the vault for good: its digest, its size in bytes, and whether it was there, intact, before."""

    digest: str
    size: int
    existed: bool


@dataclass(frozen=True, slots=True)
class Vault:
    """The objects of the bank at ``root``. A value without open state: any number may exist, in any thread or process.

    A ``readonly`` vault writes nothing, not even a lock file. Locks are waited for ``timeout`` seconds (BusyError).
    Every method that takes a digest raises UsageError if it is not 64 lower-case hex digits.
    """

    root: Path
    readonly: bool = False
    timeout: float = 30.0

    @classmethod
    def create(cls, root: Path) -> Vault:
        """Make the folders of a new bank at ``root``, or complete them; safe when many processes do it at once."""
        with storage_errors("create a bank at", root):
            root.parent.mkdir(parents=True, exist_ok=True)
            for folder in (root, root / "objects", root / "staging", root / "locks"):
                durable.make_folder(folder)
            for folder in (root.parent, root):  # another process may have made them and not yet synced
                durable.sync_folder(folder)
        return cls(root)

    @property
    def objects(self) -> Path:
        """The folder of all objects."""
        return self.root / "objects"

    @property
    def staging(self) -> Path:
        """The folder of temporary files, on the file system of the objects."""
        return self.root / "staging"

    @property
    def lock(self) -> Path:
        """The file that writers lock shared and deletion locks exclusively."""
        return self.root / "locks" / "objects.lock"

    def holding(self) -> AbstractContextManager[None]:
        """Keep deletion away for the block: taken before a ``put`` and released after the commit of the row that needs it.

        Needed also when the object was there already: it may be garbage until that row is committed.
        """
        if self.readonly and not self.lock.exists():
            return nullcontext()
        return hold(self.lock, exclusive=False, timeout=self.timeout, create=not self.readonly)

    def deleting(self) -> AbstractContextManager[None]:
        """Keep writers away for the block, the only place where ``delete`` works. Never inside ``holding``."""
        self._require_writable("delete objects in")
        return hold(self.lock, exclusive=True, timeout=self.timeout)

    def stage(self, size: int | None = None) -> AbstractContextManager[Staged]:
        """A temporary file, removed when the block ends; see ``staging.stage``. Raises StorageError."""
        self._require_writable("write to")
        return stage(self.staging, size)

    def put_bytes(self, data: bytes | bytearray | memoryview) -> Stored:
        """Store ``data`` durably; nothing is written if the object is there, intact. Raises StorageError."""
        self._require_writable("write to")
        digest = sha256(data).hexdigest()
        if self._is_durable(digest):
            return Stored(digest, memoryview(data).nbytes, existed=True)
        with self.stage() as staged:
            staged.write(data)
            if staged.digest() != digest:
                raise StorageError(f"{staged.path}: the file system does not return what was written to it")
            return self._publish(staged, digest)

    def keep(self, staged: Staged, digest: str | None = None) -> Stored:
        """Make a staged file an object, durably. Raises StorageError.

        ``digest`` is what ``staged.digest()`` returned after the last change; it is trusted and not computed again.
        An object that is there already is hashed before it is trusted, and replaced if it is damaged.
        """
        self._require_writable("write to")
        digest = staged.digest() if digest is None else digest
        if self._is_durable(digest):
            return Stored(digest, staged.size, existed=True)
        return self._publish(staged, digest)

    def open(self, digest: str) -> Mapped:
        """Map an object after hashing all of it. Raises NotFoundError, IntegrityError, StorageError."""
        with self._opened(digest) as fd:
            _require_digest(digest_of(fd), digest)
            return Mapped(fd)

    def read(self, digest: str) -> bytes:
        """The bytes of an object, hashed. Raises NotFoundError, IntegrityError, StorageError."""
        with self._opened(digest) as fd, FileIO(fd, closefd=False) as file:
            data = file.readall()
        _require_digest(sha256(data).hexdigest(), digest)
        return data

    def path(self, digest: str) -> Path:
        """Where the object is or would be."""
        return place(self.objects, digest)

    def exists(self, digest: str) -> bool:
        """True if a file of that name is there; its bytes are not looked at."""
        path = self.path(digest)
        with storage_errors("read", path):
            return path.is_file()

    def size(self, digest: str) -> int:
        """Length in bytes as the file system tells it. Raises NotFoundError."""
        return self._status(digest).st_size

    def age(self, digest: str) -> float:
        """Seconds since the object was written. Raises NotFoundError."""
        return max(0.0, time.time() - self._status(digest).st_mtime)

    def digests(self) -> Iterator[str]:
        """The digests of all objects by name, in order; files that no vault has named are skipped. Raises StorageError."""
        with storage_errors("list", self.objects):
            for folder in sorted(self.objects.iterdir()):
                if len(folder.name) == 2 and folder.is_dir():
                    names = (folder.name + file.name for file in sorted(folder.iterdir()))
                    yield from (name for name in names if is_digest(name))

    def check(self, digest: str) -> Problem | None:
        """Hash an object: None, or what is wrong with it (``object_missing``, ``object_damaged``, ``object_unreadable``)."""
        try:
            with self._opened(digest) as fd:
                _require_digest(digest_of(fd), digest)
        except NotFoundError as error:
            return Problem("object_missing", error.message, where=digest)
        except IntegrityError as error:
            return Problem("object_damaged", error.message, where=digest)
        except StorageError as error:
            return Problem("object_unreadable", error.message, where=digest)
        return None

    def delete(self, digest: str) -> int:
        """Remove an object, only inside ``deleting``, and return the bytes freed: 0 if it was gone already.

        Not synced: an object that a power failure brings back is one that nothing needs, for the next collection.
        """
        self._require_writable("delete objects in")
        path = self.path(digest)
        if not is_held_exclusively(self.lock):
            raise UsageError(f"object {digest} is not deleted: that is allowed only inside Vault.deleting()")
        with storage_errors("delete", path):
            try:
                size = path.lstat().st_size
                path.unlink()
            except FileNotFoundError:
                return 0
        return size

    def sweep_staging(self, older_than: float, *, dry_run: bool = False) -> list[Litter]:
        """Remove (or with ``dry_run`` only list) what killed processes left in staging at least ``older_than`` seconds ago.

        A file that a living process works on is locked by it and stays, however old. Raises StorageError.
        """
        if not dry_run:
            self._require_writable("sweep")
        swept = []
        with storage_errors("sweep", self.staging):
            for path, litter in find_litter(self.staging, older_than):
                if not dry_run:
                    path.unlink(missing_ok=True)
                swept.append(litter)
        return swept

    def _require_writable(self, action: str) -> None:
        if self.readonly:
            raise StorageError(f"cannot {action} {self.root}: this bank was opened read-only", hint="open it without readonly")

    def _is_durable(self, digest: str) -> bool:
        """True if an intact object is there and stays there after a power failure."""
        path = self.path(digest)
        if not path.exists() or self.check(digest) is not None:
            return False
        with storage_errors("sync", path.parent):  # whoever linked it may not have come that far yet
            durable.sync_folder(path.parent)
            durable.sync_folder(self.objects)
        return True

    def _publish(self, staged: Staged, digest: str) -> Stored:
        """Seal the staged file and give it its name, over a damaged object if there is one."""
        path = self.path(digest)
        stored = Stored(digest, staged.size, existed=False)
        staged.seal()
        with storage_errors("write", path):
            try:
                durable.link(staged.path, path)
            except FileExistsError:
                if self._is_durable(digest):  # another process was faster
                    return Stored(digest, stored.size, existed=True)
                durable.replace(staged.path, path)
            durable.sync_folder(path.parent)
        return stored

    def _status(self, digest: str) -> os.stat_result:
        path = self.path(digest)
        with storage_errors("read", path):
            try:
                return path.lstat()
            except FileNotFoundError:
                raise _missing(digest) from None

    @contextmanager
    def _opened(self, digest: str) -> Iterator[int]:
        """A descriptor of the object, which is a regular file; errors of reading it are told in our own terms."""
        path = self.path(digest)
        with storage_errors("read", path):
            fd = _open_regular(path, digest)
            try:
                yield fd
            finally:
                os.close(fd)


def _open_regular(path: Path, digest: str) -> int:
    """Open ``path`` unless it is missing, a link, a folder, a pipe or a device."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise IntegrityError(f"object {digest} is not a regular file", hint=_VERIFY)
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _missing(digest) from None


def _missing(digest: str) -> NotFoundError:
    return NotFoundError(f"object {digest} is not in the vault", hint=_VERIFY)


def _require_digest(found: str, expected: str) -> None:
    """Raise IntegrityError unless the digests agree."""
    if found != expected:
        raise IntegrityError(f"object {expected} is damaged: its bytes now have the SHA-256 {found}", hint=_VERIFY)
