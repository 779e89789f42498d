"""What the operating system says about the disk, told once: every OSError of a write becomes a StorageError with a hint."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapterbank.errors import AdapterBankError, StorageError

_HINTS = {
    errno.ENOSPC: "free some space on that disk (adapterbank gc --dry-run shows what the bank could free), then run it again",
    errno.EDQUOT: "your disk quota is used up: free some space or raise the quota, then run it again",
    errno.EFBIG: "the file size limit is too small (ulimit -f), or the file system cannot hold files of this size",
    errno.EIO: "the disk reports a failing read or write: look at the system log, then run adapterbank verify",
    errno.EROFS: "the file system is mounted read-only: remount it, or open the bank read-only",
    errno.EACCES: "check who owns the bank's folder and its permissions",
    errno.EPERM: "check who owns the bank's folder and its permissions",
    errno.ENOENT: "a folder of the bank is missing: run adapterbank doctor",
}


@contextmanager
def storage_errors(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError of the block into ``StorageError("cannot {action} {path}: …")``; our own errors pass unchanged."""
    try:
        yield
    except AdapterBankError:
        raise  # several of ours are OSErrors too
    except OSError as reason:
        hint = _HINTS.get(reason.errno or 0)
        raise StorageError(f"cannot {action} {path}: {reason.strerror or reason}", hint=hint) from reason
