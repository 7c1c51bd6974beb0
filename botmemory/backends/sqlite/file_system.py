"""The file system that a file is on, and other names of the file."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from ..finding import Finding

# names as in the kernel, without the prefix "fuse."
NETWORK = frozenset(
    {
        *("nfs", "nfs3", "nfs4", "cifs", "smb2", "smb3", "smbfs", "smbnetfs", "ncpfs", "afs"),
        *("coda", "ceph", "cephfs", "ceph-fuse", "glusterfs", "sshfs", "davfs", "davfs2"),
        *("curlftpfs", "rclone", "s3fs", "s3ql", "goofys", "mount-s3", "gcsfuse", "blobfuse"),
        *("blobfuse2", "lustre", "beegfs", "orangefs", "pvfs2"),
    }
)
# folders shared by the host of a virtual machine, also that of Docker on macOS and Windows
HOST = frozenset(
    {"9p", "drvfs", "vboxsf", "vmhgfs", "vmhgfs-fuse", "prl_fs", "prl_fsd", "grpcfuse", "osxfs"}
)
# shared by the host too, but locks work between programs of this side
HOST_WITH_LOCKS = frozenset({"virtiofs", "fakeowner"})
# cluster file systems: locks work between machines, but the -shm is memory of one machine
CLUSTER = frozenset({"gfs2", "ocfs2", "gpfs"})

LOCAL_DISK = "move the file to a local disk"


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of `/proc/self/mountinfo`."""

    id: int
    parent: int
    root: str  # the part of the file system that is mounted
    point: str  # the path where it is mounted
    kind: str
    source: str


def read_mounts() -> list[Mount]:
    """Return the mounts of this process; an empty list where the system has no `mountinfo`."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:  # noqa: PTH123  (pathlib is slow to import)
            return parse_mounts(os.fsdecode(file.read()))
    except (OSError, ValueError):  # ValueError: a line in another format
        return []


def parse_mounts(text: str) -> list[Mount]:
    """Return the mounts in the text of a `mountinfo`, in its order."""
    mounts = []
    for line in text.split("\n"):
        left, separator, right = line.partition(" - ")
        if separator:
            number, parent, _, root, point, *_ = map(_unescaped, left.split(" "))
            kind, source, *_ = map(_unescaped, right.split(" "))
            mounts.append(Mount(int(number), int(parent), root, point, kind, source))
    return mounts


def _unescaped(word: str) -> str:
    """Return a word with the octal codes of spaces, tabs, line feeds and backslashes decoded."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), word)


def mount_of(path: str, mounts: Sequence[Mount]) -> Mount | None:
    """Return the mount that an absolute path without symbolic links is on; None if unknown.

    The search goes from the root down, as in the kernel: a later mount above another one hides it.
    """
    current: Mount | None = None
    while True:
        below = [
            mount
            for mount in reversed(mounts)  # the latest mount of one place is on top
            if mount is not current
            and f"{path}/".startswith(mount.point.rstrip("/") + "/")
            and (current is None or mount.parent == current.id)
        ]
        if not below:
            return current
        current = min(below, key=lambda mount: len(mount.point))


def other_names(path: str | os.PathLike[str]) -> list[str]:
    """Return why a file has other names, as in "has 2 hard links"; an empty list if it has none.

    The names of the -wal, the -shm and the -lock follow from the name by which a program opens the
    file. A program that opens it by another name uses other files, and both damage the database.
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


def problem_of(kind: str) -> Finding | None:
    """Return why SQLite may not work on a kind of file system; None if it does.

    `what` of the finding goes on after "is on".
    """
    name = kind.removeprefix("fuse.")
    if name in NETWORK:
        what = f"a network file system ({kind}), whose locks SQLite cannot rely on"
        return Finding("error", what, LOCAL_DISK)
    if name in HOST or name in HOST_WITH_LOCKS:
        what = f"a folder of the host of this virtual machine or container ({kind}), "
        inside = "keep the file on a disk of the machine itself, such as a named volume of Docker"
        if name in HOST:
            return Finding("error", what + "whose locks and memory maps do not hold", inside)
        what += "where programs on the two sides do not see each other's locks"
        return Finding("warning", what, f"open it on one side alone, or {inside}")
    if name in CLUSTER:
        what = f"a disk of several machines ({kind}); SQLite's WAL works within one of them"
        return Finding("warning", what, "open it on one machine alone, or use PostgreSQL")
    if kind == "fuse" or kind.startswith("fuse."):
        what = f"a file system that a program provides ({kind}), whose locks may not hold"
        return Finding("warning", what, LOCAL_DISK)
    return None
