"""Rows that wait in a temporary file."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any

from ...errors import StorageError


class TemporaryRows:
    """Lists of rows, of which any number takes little memory."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._file: IO[bytes] | None = None
        self.close = self._stack.close

    def add(self, rows: list[Any]) -> None:
        """Add a list of rows, unless it is empty.

        Raises `StorageError` if the temporary folder has no space.
        """
        if not rows:
            return
        with _translated_errors():
            if self._file is None:
                file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `close`)
                self._file = self._stack.enter_context(file)
            pickle.dump(rows, self._file)

    def lists(self) -> Iterator[list[Any]]:
        """Yield the lists as they were added."""
        if self._file is None:
            return
        with _translated_errors():
            end = self._file.tell()
            self._file.seek(0)
        while True:
            with _translated_errors():
                if self._file.tell() >= end:
                    return
                rows = pickle.load(self._file)  # noqa: S301  (nobody else can open the file)
            yield rows


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"rows of a file cannot be kept in a temporary file ({error.strerror}); check the "
            "space in the temporary folder (TMPDIR names another)"
        ) from error
