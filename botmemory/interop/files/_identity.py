"""Which recorded row a row of a file is that has no id of ours.

A row is known by its content, and by how many rows of that content come before it in the file: so
the same file, and a longer one of the same account, add only what is new, and equal rows are kept.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple
from zlib import crc32

import peewee

from ..._values import to_json
from ...backends.peewee_internals import values_of
from ...backends.sqlite.stage import Occurrences
from ...database import db
from ...models import BaseModel, Trade, key_fields
from ...queries import read, write
from ...uuid7 import uuid_of
from .._columns import columns_of
from .._conflicts import differences
from ._rows import Line

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# what a fill is known by, with the exchange where both rows have one; what else a file says of it
# may be read in another way the next time
CONTENT_OF_TRADES = ("timestamp", "symbol", "side", "price", "quantity")
# the bits of an id after its milliseconds: the place among the rows of one timestamp, the content,
# and the number among the rows of that content
CONTENT_BITS, NUMBER_BITS = 40, 14
LAST_PLACE = 2**20 - 1
MIDDLE = 2**19  # of the first one of a timestamp


class Checked(NamedTuple):
    """A row of a file whose values are checked."""

    line: Line
    values: dict[str, Any]  # by the names of the fields
    given: frozenset[str]  # the names of the fields that the file has

    def content(self) -> dict[str, Any]:
        """Return the values that the file has."""
        return {name: value for name, value in self.values.items() if name in self.given}


def unique_names(model: type[BaseModel]) -> list[tuple[str, ...]]:
    """Return the names of the fields of the key, and of each other unique index of the table."""
    by_column: Any = model._meta.columns
    keys = [tuple(field.name for field in key_fields(model))]
    for index in db.current().get_indexes(model._meta.table_name):
        if index.unique and all(column in by_column for column in index.columns):
            names = tuple(by_column[column].name for column in index.columns)
            if names not in keys:
                keys.append(names)
    return [names for names in keys if names]


def recorded_row(
    model: type[BaseModel], keys: list[tuple[str, ...]], values: dict[str, Any]
) -> tuple[BaseModel | None, tuple[str, ...]]:
    """Return the recorded row with the same unique values, and which these are."""
    for names in keys:
        unique = {name: values.get(name) for name in names}
        if None not in unique.values() and (row := read.find(model, unique)) is not None:
            return row, names
    return None, ()


def is_id_of_content(trade_id: uuid.UUID, values: Mapping[str, Any]) -> bool:
    """Return whether a trade with these values got its id from a file, which had none for it."""
    columns = columns_of(Trade)
    has_time = trade_id.int >> 80 > 0
    content = [
        columns[name].to_json(values[name]) if has_time or name != "timestamp" else None
        for name in CONTENT_OF_TRADES
    ]
    short = trade_id.int >> NUMBER_BITS & 2**CONTENT_BITS - 1
    is_same: bool = short == _hash_of(content) % 2**CONTENT_BITS
    return is_same


class _Recorded(NamedTuple):
    id: uuid.UUID
    exchange: str  # in lower case, or ""


class Identities:
    """Gives the rows of one file their ids, and finds those that are recorded already."""

    def __init__(
        self,
        model: type[BaseModel],
        keys: list[tuple[str, ...]],
        newest_first: bool,
    ) -> None:
        self.model, self.key = model, write.key_of(model)
        self.others = keys[1:]
        self._to_json = {column.name: column.to_json for column in columns_of(model).values()}
        self.makes_ids = isinstance(self.key, peewee.UUIDField) and self.key.default is not None
        self.has_numbers = bool(getattr(self.key, "auto_increment", False))
        self._rows = Occurrences()  # how many rows of each content the file has had
        self._new = Occurrences()  # how many of them were new
        self._is_newest_first, self._is_recognised = newest_first, False
        self._timestamp: object = None
        self._place = MIDDLE

    def resolve(self, rows: list[Checked]) -> set[int]:
        """Set the ids of rows that have none; return the positions of those that are recorded."""
        if not (self.makes_ids or self.has_numbers):
            return set()
        places = self._places(rows)
        unnamed = [n for n, row in enumerate(rows) if self.key.name not in row.given]
        if not unnamed:
            return set()
        if self.has_numbers:
            return self._recorded(rows, [n for n in unnamed if not self._unique(rows[n])])
        groups: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
        for n in unnamed:
            groups[self._hash(rows[n]), _exchange(rows[n].values)].append(n)
        recorded = self._recorded_ids([rows[n] for n in unnamed])
        for (content, exchange), positions in groups.items():
            same = [(rows[n], places[n]) for n in positions]
            self._set_ids(content, exchange, same, recorded)
        return set()

    def close(self) -> None:
        self._rows.close()
        self._new.close()

    # --- ids --------------------------------------------------------------------------------------

    def _places(self, rows: list[Checked]) -> list[int]:
        """Return the places of rows among those of one timestamp, from the oldest on."""
        times = [row.values["timestamp"] for row in rows if "timestamp" in row.given]
        if not self._is_recognised and len(set(times)) > 1:
            self._is_newest_first, self._is_recognised = times[0] > times[-1], True
        places: list[int] = []
        for timestamp, run in groupby(row.values.get("timestamp") for row in rows):
            count = len(list(run))
            first = self._place if timestamp == self._timestamp else MIDDLE
            if self._is_newest_first:
                # the oldest one has the same place in a longer file, which begins with newer ones
                first -= count if timestamp == self._timestamp else 0
                places += range(first + count - 1, first - 1, -1)
                self._place = first
            else:
                places += range(first, first + count)
                self._place = first + count
            self._timestamp = timestamp
        return [min(max(0, place), LAST_PLACE) for place in places]

    def _unique(self, row: Checked) -> tuple[str, ...]:
        """Return the names of unique columns that a row has values of, or none."""
        for names in self.others:
            if all(row.values.get(name) is not None for name in names):
                return names
        return ()

    def _hash(self, row: Checked) -> int:
        """Return 63 bits that depend on what a row is known by."""
        names: Iterable[str] = self._unique(row) or (
            CONTENT_OF_TRADES if self.model is Trade else sorted(row.given)
        )
        content = [
            self._to_json[name](row.values.get(name)) if name in row.given else None
            for name in names
        ]
        return _hash_of(content)

    def _recorded_ids(self, rows: list[Checked]) -> dict[int, dict[int, _Recorded]]:
        """Return the recorded ids of the rows' timestamps, by their content and number."""
        found: defaultdict[int, dict[int, _Recorded]] = defaultdict(dict)
        times = {row.values["timestamp"] for row in rows if "timestamp" in row.given}
        if times:
            model: Any = self.model
            fields = (self.key, model.exchange) if model is Trade else (self.key,)
            query = model.select(*fields).where(model.timestamp.in_(list(times)))
            rows_of_times: Any = query.tuples()
            for id_, *exchange in rows_of_times:
                low = id_.int & (2 ** (CONTENT_BITS + NUMBER_BITS) - 1)
                recorded = _Recorded(id_, (exchange[0] or "").lower() if exchange else "")
                found[low >> NUMBER_BITS][low & (2**NUMBER_BITS - 1)] = recorded
        return found

    def _set_ids(
        self,
        content: int,
        exchange: str,
        rows: list[tuple[Checked, int]],
        recorded_ids: dict[int, dict[int, _Recorded]],
    ) -> None:
        """Set the ids of rows of one content: those that are recorded, then new ones."""
        short = content % 2**CONTENT_BITS
        if self._unique(rows[0][0]):  # a second one of this content is in conflict with the first
            for row, place in rows:
                row.values[self.key.name] = _id_of(_timestamp(row), place, short, 0)
            return
        numbers = recorded_ids.get(short, {})
        same = [
            numbers[n].id
            for n in sorted(numbers)
            if not (exchange and numbers[n].exchange) or numbers[n].exchange == exchange
        ]
        before = self._rows.add(content ^ crc32(exchange.encode()), len(rows))
        for n, id_ in self._matches([row for row, _ in rows], same[before:]):
            rows[n][0].values[self.key.name] = id_
            rows[n] = (rows[n][0], -1)
        new = [(row, place) for row, place in rows if place >= 0]
        first = max(numbers, default=-1) + 1 + self._new.add(content, len(new))
        for number, (row, place) in enumerate(new, first):
            row.values[self.key.name] = _id_of(_timestamp(row), place, short, number)

    def _matches(
        self, rows: list[Checked], ids: list[uuid.UUID]
    ) -> Iterator[tuple[int, uuid.UUID]]:
        """Yield the positions of rows with their recorded ids, those of equal rows first."""
        positions = list(range(len(rows)))
        if ids and len(ids) + len(rows) > 2:
            model: Any = self.model
            for stored in list(model.select().where(self.key.in_(ids)).order_by(self.key)):
                equal = (
                    n for n in positions if not differences(values_of(stored), rows[n].content())
                )
                if (n := next(equal, None)) is not None:
                    yield n, stored.get_id()
                    positions.remove(n)
                    ids.remove(stored.get_id())
        yield from zip(positions, ids, strict=False)

    # --- rows whose ids the database assigns ------------------------------------------------------

    def _recorded(self, rows: list[Checked], positions: list[int]) -> set[int]:
        """Return the positions of rows that are recorded as often as the file has had them."""
        model: Any = self.model
        by_given: defaultdict[frozenset[str], list[int]] = defaultdict(list)
        for n in positions:
            by_given[rows[n].given].append(n)
        recorded: set[int] = set()
        for given, group in by_given.items():
            by_content: defaultdict[int, list[int]] = defaultdict(list)
            for n in group:
                by_content[self._hash(rows[n])].append(n)
            counts: Counter[int] = Counter()
            query = model.select()
            for name in ("timestamp", "symbol"):
                if name in given:  # which an index finds
                    values = {rows[n].values[name] for n in group}
                    query = query.where(model._meta.fields[name].in_(list(values)))
                    break
            for row in query.iterator():
                content = self._hash(Checked((0, "", {}), values_of(row), given))
                counts[content] += content in by_content
            for content, same in by_content.items():
                # in one transaction, rows of this import are among those that are counted
                first = self._rows.add(content, len(same))
                recorded.update(same[: max(0, counts[content] - first)])
        return recorded


def _hash_of(content: list[Any]) -> int:
    digest = hashlib.blake2b(to_json(content).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def _exchange(values: dict[str, Any]) -> str:
    return str(values.get("exchange") or "").lower()


def _timestamp(row: Checked) -> datetime | None:
    timestamp: datetime | None = row.values["timestamp"] if "timestamp" in row.given else None
    return timestamp


def _id_of(timestamp: datetime | None, place: int, content: int, number: int) -> uuid.UUID:
    """Return the id of a row: a UUID of version 7, in the order of times and places."""
    milliseconds = 0
    if timestamp is None:  # that of the import, which is another one the next time
        place = 0
    else:
        milliseconds = max(0, (timestamp - EPOCH) // timedelta(milliseconds=1))
    content ^= number >> NUMBER_BITS
    low = (place % 2**8) << CONTENT_BITS | content
    low = low << NUMBER_BITS | number % 2**NUMBER_BITS
    high = milliseconds << 16 | 0x7000 | place >> 8
    return uuid_of(high << 64 | 2 << 62 | low)
