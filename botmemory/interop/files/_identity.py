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

import peewee

from ..._values import to_json
from ...backends.peewee_internals import values_of
from ...backends.sqlite.stage import Occurrences, UsedNumbers
from ...database import db
from ...models import BaseModel, Trade, key_fields
from ...queries import read, write
from ...repositories.trades import FILL_KEY
from ...uuid7 import uuid_of
from .._columns import columns_of
from .._conflicts import differences
from ._rows import Line
from ._temporary import TemporaryRows

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# what a fill is known by, with the exchange where both rows have one; what else a file says of it
# may be read in another way the next time
CONTENT_OF_TRADES = ("timestamp", "symbol", "side", "price", "quantity")
# the bits of an id after its milliseconds: the place among the rows of one timestamp, the content,
# and the number among the rows of that content
CONTENT_BITS, NUMBER_BITS = 40, 14
SHORT: int = 2**CONTENT_BITS
LAST_PLACE = 2**20 - 1
IDS_PER_READ = 500
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
    """Return the names of the fields of the key, and of each other unique index of the table.

    A partitioned table has no such index, but a trigger for the exchange's ids of trades.
    """
    by_column: Any = model._meta.columns
    keys = [tuple(field.name for field in key_fields(model))]
    if model is Trade:
        keys.append(FILL_KEY)
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
    return _content_of(trade_id) == _hash_of(content) % SHORT


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
        self._used = UsedNumbers()  # which of the ids of a content have a row of the file
        # rows that are recorded with other values, unless a later row is the recorded one
        self._waiting = TemporaryRows()
        self._is_newest_first, self._is_recognised = newest_first, False
        self._timestamp: object = None
        self._place = MIDDLE

    def resolve(self, rows: list[Checked]) -> tuple[list[Checked], int]:
        """Set the ids of rows that have none.

        Returns:
            The rows to record, and how many are recorded already. Some rows come with `waiting`.
        """
        if not (self.makes_ids or self.has_numbers):
            return rows, 0
        places = self._places(rows)
        unnamed = [n for n, row in enumerate(rows) if self.key.name not in row.given]
        if not unnamed:
            return rows, 0
        if self.has_numbers:
            left_out = self._recorded(rows, [n for n in unnamed if not self._unique(rows[n])])
            recorded = len(left_out)
        else:
            left_out, recorded = self._set_ids([(rows[n], places[n]) for n in unnamed]), 0
            left_out = {unnamed[n] for n in left_out}
            self._waiting.add([(rows[n], places[n]) for n in sorted(left_out)])
        return [row for n, row in enumerate(rows) if n not in left_out], recorded

    def waiting(self) -> Iterator[list[Checked]]:
        """Yield the rows that were kept back, when the whole file was read."""
        for rows in self._waiting.lists():
            self._set_ids(rows, is_last=True)
            yield [row for row, _ in rows]

    def close(self) -> None:
        for store in (self._rows, self._used, self._waiting):
            store.close()

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

    def _set_ids(self, rows: list[tuple[Checked, int]], *, is_last: bool = False) -> set[int]:
        """Set the ids of rows with these places; return the positions of those that have to wait.

        A row gets the id of a recorded row that is equal, a new id if no recorded row has its
        content, and otherwise, when the whole file was read, the id of one that differs.
        """
        groups: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
        for n, (row, _) in enumerate(rows):
            groups[self._hash(row), _exchange(row.values)].append(n)
        recorded = self._recorded_rows([row for row, _ in rows], {key % SHORT for key, _ in groups})
        waiting: set[int] = set()
        for (content, exchange), positions in groups.items():
            short = content % SHORT
            if self._unique(rows[positions[0]][0]):
                # a second one of this content is in conflict with the first
                for n in positions:
                    self._set_id(rows[n], short, 0)
                continue
            ids = recorded.get(short, {})
            used = self._used.of(content)
            new: set[int] = set()
            free = {
                number: values
                for number, values in sorted(ids.items())
                if number not in used and _may_be_of(values, exchange)
            }
            for n in list(positions):
                equal = (m for m in free if not differences(free[m], rows[n][0].content()))
                number = next(equal, next(iter(free), None) if is_last else None)
                if number is None:
                    continue
                rows[n][0].values[self.key.name] = free.pop(number)[self.key.name]
                new.add(number)
                positions.remove(n)
            if free and not is_last:
                waiting.update(positions)
                positions = []
            first = max((*ids, *used), default=-1) + 1
            for number, n in enumerate(positions, first):
                self._set_id(rows[n], short, number)
                new.add(number)
            self._used.add(content, new)
        return waiting

    def _set_id(self, row: tuple[Checked, int], content: int, number: int) -> None:
        checked, place = row
        checked.values[self.key.name] = _id_of(_timestamp(checked), place, content, number)

    def _recorded_rows(
        self, rows: list[Checked], contents: set[int]
    ) -> dict[int, dict[int, dict[str, Any]]]:
        """Return the recorded rows of these contents, by the content in their id and the number."""
        model: Any = self.model
        times = {row.values["timestamp"] for row in rows if "timestamp" in row.given}
        if not times:
            return {}
        of_times = model.select(self.key).where(model.timestamp.in_(list(times))).tuples()
        ids = [id_ for (id_,) in of_times if _content_of(id_) in contents]
        found: defaultdict[int, dict[int, dict[str, Any]]] = defaultdict(dict)
        for start in range(0, len(ids), IDS_PER_READ):
            for row in model.select().where(self.key.in_(ids[start : start + IDS_PER_READ])):
                id_ = row.get_id()
                found[_content_of(id_)][id_.int % 2**NUMBER_BITS] = values_of(row)
        return found

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


def _may_be_of(values: dict[str, Any], exchange: str) -> bool:
    """Return whether a recorded row may be of an exchange; "" is any."""
    recorded = _exchange(values)
    return not (recorded and exchange) or recorded == exchange


def _content_of(id_: uuid.UUID) -> int:
    number: int = id_.int
    return number >> NUMBER_BITS & SHORT - 1


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
