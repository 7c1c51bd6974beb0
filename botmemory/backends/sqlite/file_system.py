"""What the system says of the file system a file is on, and of the names that lead to the file."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "Mount",
    "Problem",
    "mount_of",
    "other_names",
    "parse_mounts",
    "problem_of",
    "read_mounts",
]

# as the kernel names them; of file systems of programs ("fuse.sshfs") what follows the point
NETWORK = frozenset(
    {
        *("nfs", "nfs3", "nfs4", "cifs", "smb2", "smb3", "smbfs", "smbnetfs", "ncpfs", "afs"),
        *("coda", "ceph", "cephfs", "ceph-fuse", "glusterfs", "sshfs", "davfs", "davfs2"),
        *("curlftpfs", "rclone", "s3fs", "s3ql", "goofys", "mount-s3", "gcsfuse", "blobfuse"),
        *("blobfuse2", "lustre", "beegfs", "orangefs", "pvfs2"),
    }
)
# folders of the host of a virtual machine, which is what Docker on macOS and Windows runs in too
HOST = frozenset(
    {"9p", "drvfs", "vboxsf", "vmhgfs", "vmhgfs-fuse", "prl_fs", "prl_fsd", "grpcfuse", "osxfs"}
)
# of the host too, but the kernel on this side keeps the locks of its own programs
HOST_WITH_LOCKS = frozenset({"virtiofs", "fakeowner"})
# a disk of several machines, whose locks hold between them; the -shm is memory of one of them
CLUSTER = frozenset({"gfs2", "ocfs2", "gpfs"})

LOCAL_DISK = "move the file to a local disk"


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of `/proc/self/mountinfo`."""

    id: int
    parent: int
    root: str  # what of the file system is mounted
    point: str  # where
    kind: str
    source: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Why SQLite does not work, or may not work, on a file system."""

    severity: Literal["error", "warning"]
    what: str
    advice: str


def read_mounts() -> list[Mount]:
    """Return what is mounted for this process; nothing where the system does not tell."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:  # noqa: PTH123  (pathlib is slow to import)
            return parse_mounts(os.fsdecode(file.read()))
    except (OSError, ValueError):  # the latter of a line that is not as Linux writes them
        return []


def parse_mounts(text: str) -> list[Mount]:
    """Return the mounts that the text of a `mountinfo` lists, in its order."""
    mounts = []
    for line in text.split("\n"):
        left, separator, right = line.partition(" - ")
        if separator:
            number, parent, _, root, point, *_ = left.split(" ")
            kind, source, *_ = [_unescaped(word) for word in right.split(" ")]
            mount = Mount(
                int(number), int(parent), _unescaped(root), _unescaped(point), kind, source
            )
            mounts.append(mount)
    return mounts


def _unescaped(word: str) -> str:
    """Return a word without the octal codes of spaces, tabs, line feeds and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), word)


def mount_of(path: str, mounts: Sequence[Mount]) -> Mount | None:
    """Return the mount that an absolute path without symbolic links is on, None if it is unknown.

    It is found as the kernel finds it, from the root down: a mount that a later one above it hides
    does not count.
    """
    found: Mount | None = None
    while True:
        below = [
            mount
            for mount in reversed(mounts)  # of several in one place, the latest is on top
            if mount is not found
            and _is_inside(path, mount.point)
            and (found is None or mount.parent == found.id)
        ]
        if not below:
            return found
        found = min(below, key=lambda mount: len(mount.point))


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def other_names(path: str | os.PathLike[str]) -> list[str]:
    """Return why a file has more names than this one, as in "has 2 hard links"; [] if it has not.

    SQLite and botmemory keep the -wal, the -shm and the -lock beside the name by which they open
    the file. A program that opens it by another name has others: it does not see what is in this
    -wal, and what both write damages the file.
    """
    path = os.path.realpath(path)
    try:
        status = os.stat(path)  # noqa: PTH116  (pathlib is slow to import)
    except OSError:
        return []
    if not stat.S_ISREG(status.st_mode):
        return []
    names = []
    if status.st_nlink > 1:
        names.append(f"has {status.st_nlink} hard links")
    mount = mount_of(path, read_mounts())
    if mount is not None and mount.point == path:
        names.append(
            f"is mounted by itself, without its folder, from {mount.root} ({mount.source})"
        )
    return names


def problem_of(kind: str) -> Problem | None:
    """Return what is wrong with a kind of file system as a place for SQLite, None if nothing is."""
    name = kind.removeprefix("fuse.")
    if name in NETWORK:
        what = f"a network file system ({kind}), whose locks SQLite cannot rely on"
        return Problem("error", what, LOCAL_DISK)
    if name in HOST or name in HOST_WITH_LOCKS:
        what = f"a folder of the host of this virtual machine or container ({kind}), "
        inside = "keep the file on a disk of the machine itself, such as a named volume of Docker"
        if name in HOST:
            return Problem("error", what + "whose locks and memory maps do not hold", inside)
        what += "where programs on the two sides do not see each other's locks"
        return Problem("warning", what, f"open it on one side alone, or {inside}")
    if name in CLUSTER:
        what = f"a disk of several machines ({kind}); SQLite's WAL works within one of them"
        return Problem("warning", what, "open it on one machine alone, or use PostgreSQL")
    if kind == "fuse" or kind.startswith("fuse."):
        what = f"a file system that a program provides ({kind}), whose locks may not hold"
        return Problem("warning", what, LOCAL_DISK)
    return None
