"""Which file system a file is on, and whether it has a second name."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from processes import bind_mount, in_child, needs_fork, needs_posix

from botmemory.backends.sqlite.file_system import (
    mount_of,
    other_names,
    parse_mounts,
    problem_of,
    read_mounts,
)

# a container with a folder of the host, a file of the host, a volume, and a mount with odd names
CONTAINER = r"""
1202 1101 0:55 / / rw,relatime master:300 - overlay overlay rw,lowerdir=/a:/b,upperdir=/c,workdir=/d
1203 1202 0:58 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
1204 1202 0:59 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755,inode64
1210 1202 254:1 /home/me/bots /app rw,relatime shared:5 master:1 - ext4 /dev/vda1 rw,discard
1211 1210 254:1 /home/me/state/bot.db /app/bot.db rw,relatime - ext4 /dev/vda1 rw,discard
1212 1202 0:61 /lost//deleted /lost.db rw - fakeowner /run/host_mark/Users rw
1213 1202 0:62 / /mnt/my\040disk\011\134\012end rw - fuse.sshfs me@host:/my\040disk rw,user_id=0
1214 1202 0:63 / /data rw,relatime - virtiofs share rw
1215 1214 0:64 / /data/deep/er rw - xfs /dev/vdb rw
"""
# /data/deep was mounted first and is hidden by what was mounted on /data after it
HIDDEN = """
21 1 8:1 / / rw - ext4 /dev/sda1 rw
22 21 8:2 / /data/deep rw - nfs4 server:/deep rw
23 21 8:3 / /data rw - xfs /dev/sdb1 rw
24 23 8:4 / /data rw - btrfs /dev/sdc1 rw
"""
# both stand on the root, as after a mount that came from another name space
TWICE = """
21 1 8:1 / / rw - ext4 /dev/sda1 rw
22 21 8:2 / /data rw - xfs /dev/sdb1 rw
23 21 8:3 / /data rw - btrfs /dev/sdc1 rw
"""
# the root that the kernel started with is its own parent, and below the one of the disk
STARTED = """
1 1 0:2 / / rw - rootfs rootfs rw
25 1 8:1 / / rw - ext4 /dev/sda1 rw
26 25 0:5 / /tmp rw - tmpfs tmpfs rw
"""
# a process whose root is no mount: what is mounted inside has parents that it does not see
CHROOT = "77 30 0:5 / /proc rw - proc proc rw\n78 30 8:2 / /data rw - xfs /dev/sdb rw\n"


@pytest.mark.parametrize(
    ("text", "path", "kind"),
    [
        (CONTAINER, "/bot.db", "overlay"),
        (CONTAINER, "/app/other.db", "ext4"),
        (CONTAINER, "/appendix/bot.db", "overlay"),
        (CONTAINER, "/mnt/my disk\t\\\nend/bot.db", "fuse.sshfs"),
        (CONTAINER, "/mnt/my/bot.db", "overlay"),
        (CONTAINER, "/data/bot.db", "virtiofs"),
        (CONTAINER, "/data/deep/bot.db", "virtiofs"),
        (CONTAINER, "/data/deep/er/bot.db", "xfs"),
        (HIDDEN, "/data/deep/bot.db", "btrfs"),
        (HIDDEN, "/bot.db", "ext4"),
        (TWICE, "/data/bot.db", "btrfs"),
        (STARTED, "/bot.db", "ext4"),
        (STARTED, "/tmp/bot.db", "tmpfs"),
        (CHROOT, "/data/bot.db", "xfs"),
        (CHROOT, "/bot.db", None),
        ("", "/bot.db", None),
        ("one line that is none\n\n", "/bot.db", None),
    ],
)
def test_the_mount_of_a_file_is_the_one_the_kernel_finds(
    text: str, path: str, kind: str | None
) -> None:
    mount = mount_of(path, parse_mounts(text))
    assert (None if mount is None else mount.kind) == kind


def test_a_line_is_read_to_its_end() -> None:
    mounts = {mount.point: mount for mount in parse_mounts(CONTAINER)}
    file = mounts["/app/bot.db"]
    assert (file.id, file.parent, file.root) == (1211, 1210, "/home/me/state/bot.db")
    assert (file.kind, file.source) == ("ext4", "/dev/vda1")
    odd = mounts["/mnt/my disk\t\\\nend"]
    assert (odd.root, odd.kind, odd.source) == ("/", "fuse.sshfs", "me@host:/my disk")


@needs_posix
@pytest.mark.skipif(not read_mounts(), reason="the system does not tell its mounts")
def test_this_systems_mounts_are_known(tmp_path: Path) -> None:
    mounts = read_mounts()
    status = mount_of("/proc/self/status", mounts)
    assert status is not None
    assert (status.kind, status.point) == ("proc", "/proc")
    here = mount_of(str(tmp_path.resolve()), mounts)
    assert here is not None
    assert os.path.ismount(here.point)


@pytest.mark.parametrize(
    ("severity", "kinds"),
    [
        ("error", "nfs nfs4 cifs smb2 smb3 afs ceph lustre beegfs orangefs pvfs2 davfs"),
        ("error", "fuse.sshfs fuse.rclone fuse.s3fs fuse.gcsfuse fuse.glusterfs fuse.cephfs"),
        ("error", "9p drvfs vboxsf vmhgfs fuse.vmhgfs-fuse prl_fs fuse.grpcfuse fuse.osxfs"),
        ("warning", "virtiofs fakeowner gfs2 ocfs2 gpfs fuse fuse.mergerfs fuse.of_tomorrow"),
        (None, "ext4 xfs btrfs zfs tmpfs overlay fuseblk apfs vfat f2fs ecryptfs bcachefs"),
    ],
)
def test_each_kind_of_file_system_has_its_problem(severity: str | None, kinds: str) -> None:
    for kind in kinds.split():
        problem = problem_of(kind)
        assert (None if problem is None else problem.severity) == severity, kind
        if problem is not None:
            assert f"({kind})" in problem.what
            assert problem.advice


def test_a_hard_link_is_another_name(tmp_path: Path) -> None:
    file = tmp_path / "bot.db"
    file.touch()
    assert other_names(file) == []
    (tmp_path / "same.db").hardlink_to(file)
    assert other_names(file) == ["has 2 hard links"]


@needs_posix
def test_a_symbolic_link_is_no_other_name(tmp_path: Path) -> None:
    file, link = tmp_path / "bot.db", tmp_path / "link.db"
    file.touch()
    link.symlink_to(file)
    assert other_names(file) == other_names(link) == []
    (tmp_path / "same.db").hardlink_to(file)
    assert other_names(link) == ["has 2 hard links"]


@needs_posix
def test_a_folder_or_missing_file_has_no_other_name(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()  # a folder has a link for each folder in it
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(tmp_path / "socket"))
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path, tmp_path / "absent.db", tmp_path / "socket", tmp_path / "loop"):
        assert other_names(path) == []


@needs_fork
@pytest.mark.parametrize("name", ["bot.db", "my bot\t\\\n.db", "ü - ext4.db"])
def test_a_file_that_is_mounted_by_itself_has_another_name(name: str, tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside.db", tmp_path / "inside" / name
    inside.parent.mkdir()
    outside.touch()
    inside.touch()

    def child() -> list[list[str]] | None:
        if not bind_mount(outside, inside):
            return None
        (tmp_path / "link.db").symlink_to(inside)
        return [other_names(path) for path in (inside, tmp_path / "link.db", outside)]

    names = in_child(child)
    if names is None:
        pytest.skip("this user may not mount a file")
    [reason], by_link, of_outside = names
    assert by_link == [reason]
    assert of_outside == []  # the kernel tells of a mount where it is, not where it is from
    assert reason.startswith("is mounted by itself, without its folder, from ")
    assert "/outside.db (" in reason


@needs_fork
def test_a_folder_that_is_mounted_gives_its_files_no_other_name(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (outside / "bot.db").touch()

    def child() -> list[str] | None:
        return other_names(inside / "bot.db") if bind_mount(outside, inside) else None

    names = in_child(child)
    if names is None:
        pytest.skip("this user may not mount a folder")
    assert names == []
