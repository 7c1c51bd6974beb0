"""JSON Lines: one JSON object per line; and reading the lines of a text file."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from ...atomic_write import SQLITE_MAGIC
from ...backends.sqlite.errors import translate_errors
from ...errors import StorageError
from ._layout import Layout
from ._rows import CheckHeader, Columns, Line, Progress

NO_TEXT = "is a spreadsheet or an archive; save it as CSV, or unpack it"
OTHERS = {  # what a file that is no text begins with
    b"PK\3\4": NO_TEXT,
    b"\x1f\x8b": NO_TEXT,
    b"PAR1": "is a Parquet file; give it the suffix .parquet",
    SQLITE_MAGIC: "is a database of SQLite; export its rows",
}
LIST = "; write each object of the list on a line of its own, without the brackets and the commas"
LINES_PER_REPORT = 1000


def write(path: Path, columns: Columns, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            values = {name: columns[name].to_json(value) for name, value in row.items()}
            file.write(json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")


def read(
    path: Path, columns: Columns, progress: Progress, layout: Layout, check_header: CheckHeader
) -> Iterator[Line]:
    """Yield the number of each line, its text and its row, or what is wrong with it."""
    for number, line in read_lines(path, progress, layout.encoding):
        text = line.rstrip("\r\n")
        if not text.strip():
            continue
        yield number, text, _parsed(text)


class _DuplicateKeyError(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, which Python's reader would take the last of two values of."""
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateKeyError(next(repr(name) for name in row if names.count(name) > 1))
    return row


def _parsed(text: str) -> dict[str, Any] | str:
    """Return the row of a line, or what is wrong with it."""
    try:
        row = json.loads(text, object_pairs_hook=_object)
    except _DuplicateKeyError as error:
        return f"it has the key {error} twice"
    except json.JSONDecodeError as error:
        is_list = text.lstrip().startswith("[")
        return f"it is not JSON, at character {error.pos + 1}{LIST if is_list else ''}"
    except ValueError:
        return "it is not JSON"
    except RecursionError:
        return "it is nested too deeply"
    if isinstance(row, dict):
        return row
    return f"it is no JSON object{LIST if isinstance(row, list) else ''}"


def read_lines(
    path: Path, progress: Progress, encoding: str | None = None
) -> Iterator[tuple[int, str]]:
    """Yield the numbers and the lines of a text file with their ends; report the bytes read."""
    with translate_errors(path, "cannot be read"):
        total, done = path.stat().st_size, 0
        with path.open("rb") as file:
            codec = _codec(encoding, file.peek(2)[:2])
            for number, line in enumerate(_lines(file, codec), 1):
                done += len(line)
                if number == 1:
                    for start, problem in OTHERS.items():
                        if line.startswith(start):
                            raise StorageError(f"{path}: {problem}")
                try:
                    text = line.decode(codec)
                except UnicodeDecodeError as error:
                    other = "another encoding" if encoding else "its encoding"
                    advice = f"; pass {other}, such as encoding='cp1252'"
                    raise StorageError(
                        f"{path}, line {number}: is not {codec.upper()}: {error.reason}{advice}"
                    ) from error
                if number == 1 and "\0" in text and encoding is None:
                    likely = "utf-16-be" if text[0] == "\0" else "utf-16-le"
                    raise StorageError(f"{path}: is not UTF-8; pass encoding={likely!r}")
                yield number, text.removeprefix("\ufeff") if number == 1 else text
                if number % LINES_PER_REPORT == 0:
                    progress(done, total)
        progress(total, total)


def _codec(encoding: str | None, start: bytes) -> str:
    """Return the codec of an encoding, or of the byte order mark at the start of the file."""
    name = codecs.lookup(encoding or "utf-8").name
    if name not in ("utf-8", "utf-8-sig", "utf-16"):
        return name
    by_mark = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
    return by_mark.get(start, "utf-16-le" if name == "utf-16" else "utf-8")


def _lines(file: IO[bytes], codec: str) -> Iterator[bytes]:
    """Yield the lines of a file, whose ends take two bytes in UTF-16."""
    end = "\n".encode(codec)
    if len(end) == 1:
        yield from file
        return
    rest = b""
    while block := file.read(2**16):
        rest += block
        start = position = 0
        while (position := rest.find(end, position)) >= 0:
            if position % 2:  # the second byte of a character and the first of the next one
                position += 1
                continue
            position += 2
            yield rest[start:position]
            start = position
        rest = rest[start:]
    if rest:
        yield rest
