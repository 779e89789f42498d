"""The versions of SQLite whose WAL is safe, and where a path is mounted."""

from pathlib import Path

import pytest

from adapterbank.catalog.filesystem import Mount, mount_of
from adapterbank.catalog.journal import choose


@pytest.mark.parametrize(
    ("version", "mode"),
    [
        ((3, 7, 0), "truncate"),
        ((3, 40, 1), "truncate"),
        ((3, 44, 5), "truncate"),
        ((3, 44, 6), "wal"),
        ((3, 45, 0), "truncate"),
        ((3, 49, 9), "truncate"),
        ((3, 50, 6), "truncate"),
        ((3, 50, 7), "wal"),
        ((3, 51, 2), "truncate"),
        ((3, 51, 3), "wal"),
        ((3, 53, 0), "wal"),
        ((4, 0, 0), "wal"),
    ],
)
def test_wal_only_where_its_bug_is_fixed(version: tuple[int, int, int], mode: str) -> None:
    assert choose(version).mode == mode
    assert ".".join(map(str, version)) in choose(version).why


MOUNTS = r"""
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 0:30 / /mnt/share rw - nfs4 server:/export rw
23 22 0:31 / /mnt/share/local rw master:3 propagate_from:2 - xfs /dev/sdb rw
24 21 0:32 / /mnt/a\040b rw - fuse.sshfs host:/ rw
25 21 0:33 / /mnt/over rw - ext4 /dev/sdc rw
26 21 0:34 / /mnt/over rw - cifs //host/x rw
garbage
"""


@pytest.mark.parametrize(
    ("path", "mount", "network"),
    [
        ("/home/u/bank", Mount("/", "ext4"), False),
        ("/mnt/share/bank", Mount("/mnt/share", "nfs4"), True),
        ("/mnt/share", Mount("/mnt/share", "nfs4"), True),
        ("/mnt/shared", Mount("/", "ext4"), False),
        ("/mnt/share/local/bank", Mount("/mnt/share/local", "xfs"), False),
        ("/mnt/a b/bank", Mount("/mnt/a b", "fuse.sshfs"), True),
        ("/mnt/over/bank", Mount("/mnt/over", "cifs"), True),
    ],
)
def test_the_mount_of_a_path(path: str, mount: Mount, network: bool) -> None:
    assert mount_of(Path(path), MOUNTS) == mount
    assert mount.is_network == network


def test_without_mountinfo_nothing_is_known_and_nothing_refused() -> None:
    assert mount_of(Path("/x"), "") == Mount("/", "unknown")
    assert not mount_of(Path("/x"), "").is_network
