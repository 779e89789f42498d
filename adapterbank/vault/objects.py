"""The vault: put, keep, open, check and delete objects by their digest."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from adapterbank.disk_errors import storage_errors
from adapterbank.errors import IntegrityError, NotFoundError, Problem, StorageError, UsageError
from adapterbank.locks import hold, is_held_exclusively
from adapterbank.vault import durable, reading
from adapterbank.vault.address import is_digest, places
from adapterbank.vault.compressed import SUFFIX, compress
from adapterbank.vault.mapped import Mapped
from adapterbank.vault.staging import Litter, Staged, find_litter, stage

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that is in the vault for good: its digest, the length of its content, whether it was there, intact, before."""

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
        """Store ``data`` durably, compressed where that halves it; nothing is written if the object is there, intact.

        Raises StorageError.
        """
        self._require_writable("write to")
        digest, size = sha256(data).hexdigest(), memoryview(data).nbytes
        if self._is_durable(digest):
            return Stored(digest, size, existed=True)
        path, smaller = places(self.objects, digest)
        packed = None if os.path.lexists(path) else compress(data)  # a damaged file is replaced, not left beside a good one
        content = data if packed is None else packed
        with self.stage() as staged:
            staged.write(content)
            if staged.digest() != sha256(content).hexdigest():
                raise StorageError(f"{staged.path}: the file system does not return what was written to it")
            existed = self._publish(staged, digest, path if packed is None else smaller)
        return Stored(digest, size, existed)

    def keep(self, staged: Staged, digest: str | None = None) -> Stored:
        """Make a staged file an object, durably. Raises StorageError.

        ``digest`` is what ``staged.digest()`` returned after the last change; it is trusted and not computed again.
        An object that is there already is hashed before it is trusted, and replaced if it is damaged.
        """
        self._require_writable("write to")
        digest = staged.digest() if digest is None else digest
        if self._is_durable(digest):
            return Stored(digest, staged.size, existed=True)
        return Stored(digest, staged.size, self._publish(staged, digest, places(self.objects, digest)[0]))

    def open(self, digest: str) -> Mapped:
        """Map an object after hashing all of it. Raises NotFoundError, IntegrityError, StorageError."""
        return self._first_intact(digest, reading.view)

    def read(self, digest: str) -> bytes:
        """The bytes of an object, hashed. Raises NotFoundError, IntegrityError, StorageError."""
        return self._first_intact(digest, reading.read)

    def path(self, digest: str) -> Path:
        """The file of the object, compressed or not; where its content would be if there is none."""
        plain, smaller = places(self.objects, digest)
        return smaller if os.path.lexists(smaller) and not os.path.lexists(plain) else plain

    def exists(self, digest: str) -> bool:
        """True if a file of that name is there; its bytes are not looked at."""
        files = places(self.objects, digest)
        with storage_errors("read", files[0]):
            return any(path.is_file() for path in files)

    def size(self, digest: str) -> int:
        """Bytes on the disk, as the file system tells them: what ``delete`` frees. Raises NotFoundError."""
        return sum(status.st_size for status in self._statuses(digest))

    def age(self, digest: str) -> float:
        """Seconds since the object was written. Raises NotFoundError."""
        return max(0.0, time.time() - max(status.st_mtime for status in self._statuses(digest)))

    def digests(self) -> Iterator[str]:
        """The digests of all objects by name, in order; files that no vault has named are skipped. Raises StorageError."""
        with storage_errors("list", self.objects):
            for folder in sorted(self.objects.iterdir()):
                if len(folder.name) == 2 and folder.is_dir():
                    names = {folder.name + file.name.removesuffix(SUFFIX) for file in folder.iterdir()}
                    yield from sorted(name for name in names if is_digest(name))

    def check(self, digest: str) -> Problem | None:
        """Hash an object: None, or what is wrong with it (``object_missing``, ``object_damaged``, ``object_unreadable``)."""
        try:
            self._first_intact(digest, reading.check)
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
        files = places(self.objects, digest)
        if not is_held_exclusively(self.lock):
            raise UsageError(f"object {digest} is not deleted: that is allowed only inside Vault.deleting()")
        freed = 0
        for path in files:
            with storage_errors("delete", path), suppress(FileNotFoundError):
                size = path.lstat().st_size
                path.unlink()
                freed += size
        return freed

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

    def _publish(self, staged: Staged, digest: str, path: Path) -> bool:
        """Seal the staged file and name it ``path``, over a damaged object if there is one; True if it was there by now."""
        staged.seal()
        with storage_errors("write", path):
            try:
                durable.link(staged.path, path)
            except FileExistsError:
                if self._is_durable(digest):  # another process was faster
                    return True
                durable.replace(staged.path, path)
            durable.sync_folder(path.parent)
        return False

    def _first_intact(self, digest: str, look: Callable[[Path, str], Found]) -> Found:
        """What ``look`` makes of the object's file; of two, the second one stands in for a damaged first one."""
        error: NotFoundError | IntegrityError | StorageError = reading.missing(digest)
        for path in places(self.objects, digest):
            try:
                return look(path, digest)
            except NotFoundError:
                continue
            except (IntegrityError, StorageError) as told:
                error = told
        raise error

    def _statuses(self, digest: str) -> list[os.stat_result]:
        """The status of each file of the object, of which there is mostly one. Raises NotFoundError if there is none."""
        found = []
        for path in places(self.objects, digest):
            with storage_errors("read", path), suppress(FileNotFoundError):
                found.append(path.lstat())
        if not found:
            raise reading.missing(digest)
        return found
