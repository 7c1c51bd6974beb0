"""Paths as the file system sees them: which are of one file, and which are no file on Windows."""

from __future__ import annotations

import os
import re

# names of devices, whatever their extension: what is written to nul.db is gone
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)( *\.| *$)", re.I)
_REFUSED = re.compile(r'[<>"|?*]')


def is_same_file(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> bool:
    """Return whether two absolute paths are of one file, which may be missing."""
    if os.fspath(first) == os.fspath(second):
        return True
    try:
        # by a hard link, or where case does not count
        is_one = os.path.samefile(first, second)  # noqa: PTH121  (pathlib is slow to import)
        return is_one or _differ_in_case(first, second)
    except OSError:
        return False


def _differ_in_case(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> bool:
    """Return whether two paths are two spellings of one.

    A file system that a program provides may number a file anew under each spelling of its name.
    """
    (folder, name), (other_folder, other_name) = os.path.split(first), os.path.split(second)
    spelling = name.casefold()
    if not name or spelling != other_name.casefold() or not is_same_file(folder, other_folder):
        return False
    if name == other_name:
        return True
    names = os.listdir(folder)  # noqa: PTH208  (pathlib is slow to import)
    return sum(each.casefold() == spelling for each in names) == 1


def problem_on_windows(path: str) -> str:
    """Return why a path is of no file, or of another one than it says, on Windows; "" if it is."""
    backslashes = path.replace("/", "\\")
    if backslashes.startswith(("\\\\?\\", "\\\\.\\")):
        return (
            r"begins with \\?\ or \\.\, after which Windows takes each name as it is; write the "
            r"path without it, as in C:\bots\trades.db"
        )
    if re.match(r"\\+[A-Za-z]:", backslashes):
        return r"has a slash before its drive; write it without, as in C:\bots\trades.db"
    for name in re.sub(r"^[A-Za-z]:", "", backslashes).split("\\"):
        if ":" in name:
            return f"has a colon in '{name}', which names a stream inside a file; remove it"
        if character := _REFUSED.search(name):
            return f"has {character[0]} in '{name}', which Windows refuses in names; remove it"
        if _DEVICE.match(name):
            return f"has '{name}', which is a device of Windows; choose another name"
        if name not in ("", ".", "..") and name[-1] in ". ":
            last = "dot" if name[-1] == "." else "space"
            return f"has '{name}', whose last {last} Windows removes; remove it"
    return ""


def without_prefix(path: str) -> str:
    r"""Return a path without the `\\?\` that Windows puts before a long one."""
    return re.sub(r"^\\\\\?\\(UNC\\|(?=[A-Za-z]:))", lambda found: "\\\\" if found[1] else "", path)


def is_on_other_machine(path: str) -> bool:
    r"""Return whether an absolute path of Windows begins as `\\machine\share` does."""
    return path.replace("/", "\\").startswith("\\\\")
