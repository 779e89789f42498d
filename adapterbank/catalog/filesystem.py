"""Where a bank may live: not on a network file system, whose locks and renames do not hold what SQLite and we rely on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from adapterbank.errors import PlatformError

_NETWORK = {
    "nfs", "nfs3", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "afs", "coda", "ceph", "lustre", "gpfs", "beegfs",
    "glusterfs", "orangefs", "pvfs2", "panfs", "davfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs",
    "fuse.rclone", "fuse.davfs2", "fuse.gcsfuse", "fuse.blobfuse", "fuse.juicefs",
}  # fmt: skip
_MOUNTINFO = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Mount:
    """The mount that holds a path: where it begins and the type of its file system, ``unknown`` off Linux."""

    point: str
    type: str

    @property
    def is_network(self) -> bool:
        return self.type in _NETWORK


def mount_of(path: Path, mountinfo: str | None = None) -> Mount:
    """The mount that holds ``path``, from the text of ``/proc/self/mountinfo`` (read here unless given)."""
    if mountinfo is None:
        mountinfo = _MOUNTINFO.read_text(errors="surrogateescape") if _MOUNTINFO.exists() else ""
    real, best = path.resolve(), Mount("/", "unknown")
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        parts, kind = fields.split(" "), rest.split(" ")[0]
        if len(parts) < 5 or not kind:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), parts[4])
        # A later mount on the same point hides the earlier one, hence >=.
        if real.is_relative_to(point) and len(point) >= len(best.point):
            best = Mount(point, kind)
    return best


def refuse_network(path: Path, mountinfo: str | None = None) -> Mount:
    """The mount that holds ``path``; PlatformError if it is a network file system."""
    mount = mount_of(path, mountinfo)
    if mount.is_network:
        raise PlatformError(
            f"{path} is on a network file system ({mount.type} at {mount.point}): a bank needs a local disk, "
            "because SQLite's locks do not hold there",
            hint="choose a folder on a local disk with --bank PATH; adapters travel by `adapterbank export`",
        )
    return mount
