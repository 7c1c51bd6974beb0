"""Run a function in another process, and return what it returned or raise what it raised."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from paths import FAULTS, ROOT

T = TypeVar("T")

NOBODY = 65534
IS_ROOT = hasattr(os, "getuid") and os.getuid() == 0
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
needs_posix = pytest.mark.skipif(
    os.name != "posix", reason="Windows has no permissions, links, users or folders like these"
)
needs_signals = pytest.mark.skipif(
    not hasattr(signal, "SIGALRM"), reason="the platform has no signals like those of POSIX"
)
# under Wine, which runs programs for Windows, a drive may be the root folder of Linux
HAS_PROC = os.name == "posix" and Path("/proc/self/fd").exists()
needs_proc = pytest.mark.skipif(not HAS_PROC, reason="the platform has no /proc")
needs_checkout = pytest.mark.skipif(
    not (ROOT / "benchmarks").exists(), reason="the tests are not in a checkout of botmemory"
)
needs_pythonpath = pytest.mark.skipif(
    sys.flags.ignore_environment, reason="this Python, which is embedded, ignores PYTHONPATH"
)


def in_child(function: Callable[[], T], *, as_nobody: bool = False) -> T:
    """Fork, run `function` in the child (optionally without root's rights), return its result."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if as_nobody and IS_ROOT:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            result = (True, function())
        except BaseException:
            result = (False, traceback.format_exc())
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(result, pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    assert content, "the child died without a result"
    good, value = pickle.loads(content)
    assert good, value
    return value


def mount_small_disk(folder: Path, size: str = "1m") -> bool:
    """Mount a small disk in a name space of this process alone, where the system lets it."""
    return _mount(b"none", folder, b"tmpfs", 0, f"size={size}".encode())


def bind_mount(source: Path, target: Path) -> bool:
    """Mount a file or a folder on another one, as containers do, where the system lets it."""
    return _mount(bytes(source), target, None, 1 << 12, None)


def _mount(
    source: bytes, target: Path, kind: bytes | None, flags: int, options: bytes | None
) -> bool:
    """Mount in a name space of this process alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    own_mounts, private_and_all = 0x00020000, (1 << 18) | (1 << 14)
    return (
        libc.unshare(own_mounts) == 0
        and libc.mount(b"none", b"/", None, private_and_all, None) == 0
        and libc.mount(source, bytes(target), kind, flags, options) == 0
    )


def fork_writer(work: Callable[[Callable[[Any], None]], None]) -> tuple[int, int]:
    """Fork a child that runs `work(acknowledge)`; return its pid and where the words arrive."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            work(lambda word: os.write(write, f"{word}\n".encode()) and None)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(write)
    return child, read


def kill(child: int, words: int) -> list[str]:
    """Kill a writer without warning and return every word it had acknowledged."""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(words, "rb") as pipe:
        return [line.decode() for line in pipe.read().split(b"\n")[:-1]]


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes a process's disk slow, or forgetful; see faults/disk.c."""
    return _compiled("disk.c", tmp_path_factory.mktemp("disk"))


@pytest.fixture(scope="session")
def syscalls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes one system call of a process fail; see faults/syscalls.c."""
    return _compiled("syscalls.c", tmp_path_factory.mktemp("syscalls"))


def _compiled(name: str, folder: Path) -> Path:
    source = FAULTS / name
    library = folder / "preloaded.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        pytest.skip("there is no C compiler to build the test's library with")
    return library
