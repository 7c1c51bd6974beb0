"""Write a file atomically, so that its name never refers to a part of it, and over no database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ._paths import is_same_file
from .errors import ValidationError

__all__ = ["SIDECARS", "SQLITE_MAGIC", "refuse_to_replace", "replacing"]

SQLITE_MAGIC = b"SQLite format 3\0"  # with which a database begins
IS_DATABASE = "is a SQLite database"

SIDECARS = ("-journal", "-wal", "-shm")  # what SQLite writes beside a file that is a database


def refuse_to_replace(
    name: str, path: Path, *, database: Path | None = None, source: Path | None = None
) -> None:
    """Refuse to write over a database, such as the open one, or over the file that is read.

    Raises:
        ValidationError: It names the argument `name`.
    """
    problem = ""
    with suppress(OSError):  # writing will say so, too
        if source is not None and is_same_file(path, source):
            problem = "is the file that is read"
        # closing the file of the open database would release the locks of this process
        elif database is not None and is_same_file(path, database):
            problem = IS_DATABASE
        elif path.is_file():  # no pipe
            with path.open("rb") as file:
                if file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC:
                    problem = IS_DATABASE
    if problem:
        raise ValidationError(f"{name}: {path} {problem}; name another file", field=name)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file that replaces `path` when the block ends without an error.

    Otherwise it is removed, also the one of an earlier process that was killed.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    _remove(unfinished)
    try:
        yield unfinished
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):  # it must not hide why the file is unfinished
            _remove(unfinished)
        raise


def _remove(unfinished: Path) -> None:
    for sidecar in ("", *SIDECARS):
        unfinished.with_name(unfinished.name + sidecar).unlink(missing_ok=True)
