"""Column types: what a column accepts, how it is stored, what comes back.

Every field has two doors. `clean(value)` is for storing: it returns the value as it will be read
again, or raises `ValidationError`. `db_value(value)` is Peewee's own, used in comparisons too: it
converts, and leaves out the rules that would forbid `Trade.price > 0`.
"""

from __future__ import annotations

import enum
import json
import math
import os
import re
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, NoReturn

import peewee
from playhouse.fields import EnumField

from .errors import ValidationError, show

__all__ = [
    "ChoiceField",
    "CountedIdField",
    "DoubleField",
    "IdField",
    "LabelField",
    "MetadataField",
    "ReferenceField",
    "SideField",
    "UtcDateTimeField",
    "refuse",
    "to_finite",
    "to_utc",
    "uuid7",
]

DEEPEST_METADATA = 64


def refuse(field: str, value: object, expected: str) -> NoReturn:
    """Raise the `ValidationError` every refused value ends in.

    `field` may be a place inside metadata, such as `signal_metadata.bands[2]`.
    """
    name = re.split(r"[.\[]", field, maxsplit=1)[0]
    raise ValidationError(f"{field}: {show(value)} {expected}", field=name)


def to_utc(field: str, value: object) -> datetime:
    """Return a datetime as aware UTC; naive input is taken as UTC."""
    if not isinstance(value, datetime) or value != value:  # pandas' NaT is a datetime
        refuse(field, value, "is not a datetime; naive ones are taken as UTC")
    if type(value) is not datetime:  # pandas' Timestamp: nanoseconds end here
        value = datetime.fromisoformat(value.isoformat(timespec="microseconds"))
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except (OverflowError, ValueError):
        refuse(field, value, "is outside the years 1 to 9999 in UTC")


def to_finite(field: str, value: object) -> float:
    """Return a number as a finite float; text and bool are not numbers."""
    number = _to_float(field, value)
    if not math.isfinite(number):
        refuse(field, value, "is not a finite number")
    return number


def _to_float(field: str, value: object) -> float:
    if type(value) is float:
        return value
    if not isinstance(value, (Real, Decimal)) or isinstance(value, bool):
        refuse(field, value, "is not a number; pass an int, a float or a Decimal")
    try:
        return float(value)
    except (OverflowError, ValueError):
        refuse(field, value, "does not fit a double")


class UtcDateTimeField(peewee.Field):
    """A moment in UTC: text of fixed width on SQLite, `timestamptz` on PostgreSQL."""

    field_type = "TIMESTAMPTZ"

    def clean(self, value: object) -> datetime:
        return to_utc(self.name, value)

    def db_value(self, value: object) -> str | None:
        # text on both backends: with its offset written out, no session's time zone can shift it
        if value is None:
            return None
        return to_utc(self.name, value).isoformat(" ", "microseconds")

    def python_value(self, value: Any) -> datetime | None:
        if value is None:
            return None
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment if moment.tzinfo is UTC else to_utc(self.name, moment)


class DoubleField(peewee.DoubleField):
    """A finite 8-byte float; `positive` ones are greater than zero."""

    def __init__(self, *args: Any, positive: bool = False, **kwargs: Any) -> None:
        self.positive = positive
        super().__init__(*args, **kwargs)

    def clean(self, value: object) -> float:
        number = to_finite(self.name, value)
        if self.positive and not number > 0:
            refuse(self.name, value, "is not greater than 0")
        return number

    def db_value(self, value: object) -> float | None:
        return None if value is None else _to_float(self.name, value)


class LabelField(peewee.CharField):
    """A short name: printable, not empty, no space at either end, at most `max_length` long."""

    def clean(self, value: object) -> str:
        if not isinstance(value, str):
            refuse(self.name, value, "is not text")
        text = str(value)
        if not 1 <= len(text) <= self.max_length:
            refuse(
                self.name, value, f"has {len(text)} characters; 1 to {self.max_length} are allowed"
            )
        if not text.isprintable():
            refuse(self.name, value, "holds a character that cannot be printed")
        if text[0] == " " or text[-1] == " ":
            refuse(self.name, value, "begins or ends with a space")
        return text

    def db_value(self, value: object) -> str | None:
        if value is None or isinstance(value, str):
            return value
        refuse(self.name, value, "is not text")


class SideField(EnumField):  # type: ignore[misc]
    """A member of a text enum, stored as its value."""

    def clean(self, value: object) -> enum.Enum:
        try:
            member: enum.Enum = self.enum_class(value)
        except ValueError:
            values = " or ".join(repr(member.value) for member in self.enum_class)
            refuse(self.name, value, f"is not a side; use {values}")
        return member

    def db_value(self, value: object) -> object:
        return None if value is None else self.clean(value).value


class ChoiceField(peewee.SmallIntegerField):
    """One int of a fixed few; True and 1.0 are not ints here."""

    def __init__(self, *args: Any, choices: tuple[int, ...], **kwargs: Any) -> None:
        super().__init__(*args, choices=[(n, str(n)) for n in choices], **kwargs)
        self.values = choices

    def clean(self, value: object) -> int:
        if not isinstance(value, Integral) or isinstance(value, bool) or value not in self.values:
            refuse(self.name, value, f"is not one of {', '.join(map(str, self.values))}")
        return int(value)


class IdField(peewee.UUIDField):
    """A UUID; text in any of its usual spellings is accepted."""

    def clean(self, value: object) -> uuid.UUID:
        if isinstance(value, uuid.UUID):
            return value
        if isinstance(value, str):
            try:
                return uuid.UUID(value)
            except ValueError:
                pass
        refuse(self.name, value, "is not a UUID")

    def db_value(self, value: object) -> object:
        return None if value is None else self.clean(value).hex


class CountedIdField(peewee.BigAutoField):
    """An id the database counts up: an int from 1 on."""

    def clean(self, value: object) -> int:
        if (
            not isinstance(value, Integral)
            or isinstance(value, bool)
            or not 0 <= int(value) < 2**63
        ):
            refuse(self.name, value, "is not an id; ids are whole numbers")
        return int(value)


class ReferenceField(peewee.ForeignKeyField):
    """A row of another table, given as the row or as its id."""

    def clean(self, value: object) -> int:
        key = value._pk if isinstance(value, self.rel_model) else value
        if key is None:
            refuse(
                self.name, value, f"is not stored yet; record the {self.rel_model.__name__} first"
            )
        try:
            row_id: int = self.rel_field.clean(key)
        except ValidationError:
            name = self.rel_model.__name__
            refuse(self.name, value, f"is neither a {name} nor the id of one")
        return row_id

    def db_value(self, value: object) -> int | None:
        return None if value is None else self.clean(value)


class MetadataField(peewee.JSONField):
    """Any JSON value; scalars of NumPy and pandas, Decimal, datetime, UUID and Enum become JSON."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(dumps=self._to_text, **kwargs)

    def clean(self, value: object) -> object:
        plain = _plain(value, self.name, 0)
        most = self.model._meta.database.config.max_metadata_bytes
        if (size := len(_to_json(plain).encode())) > most:
            refuse(self.name, value, f"takes {size:,} bytes; at most {most:,} are allowed")
        return plain

    def _to_text(self, value: object) -> str:
        return _to_json(_plain(value, self.name, 0))


def _to_json(plain: object) -> str:
    return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _plain(value: Any, path: str, depth: int) -> Any:
    """Return `value` as dict, list, str, int, float, bool and None only."""
    kind = type(value)
    if value is None or kind is bool or kind is int:
        return value
    if kind is float:
        return value if math.isfinite(value) else None
    if isinstance(value, enum.Enum):
        return _plain(value.value, path, depth)
    if isinstance(value, str):
        return _plain_text(str(value), path)
    if depth >= DEEPEST_METADATA and isinstance(value, (Mapping, list, tuple)):
        refuse(path, value, f"is nested deeper than {DEEPEST_METADATA} levels")
    if isinstance(value, Mapping):
        plain: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                refuse(path, key, "is used as a key; JSON keys are text")
            name = _plain_text(str(key.value) if isinstance(key, enum.Enum) else str(key), path)
            if name in plain:
                refuse(path, key, "stands twice among the keys")
            plain[name] = _plain(item, f"{path}.{name}", depth + 1)
        return plain
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, date):  # a datetime is one; pandas' NaT is one that is not equal to itself
        if value != value:
            return None
        return (to_utc(path, value) if isinstance(value, datetime) else value).isoformat()
    return _plain_scalar(value, path)


def _plain_scalar(value: Any, path: str) -> Any:
    """Return a number of another library as int, float, bool or None."""
    kind = type(value)
    if kind.__name__ == "NAType":  # pandas.NA, whose comparisons are neither true nor false
        return None
    if isinstance(value, Decimal) or (isinstance(value, Real) and not isinstance(value, Integral)):
        number = float(value) if not (isinstance(value, Decimal) and value.is_nan()) else math.nan
        return number if math.isfinite(number) else None
    if isinstance(value, Integral):
        return int(value)
    if kind.__module__ == "numpy":
        if kind.__name__ in ("bool", "bool_"):
            return bool(value)
        if kind.__name__ == "datetime64":
            moment = value.astype("datetime64[us]").item()
            return None if moment is None else to_utc(path, moment).isoformat()
    refuse(path, value, f"cannot be stored as JSON ({kind.__name__})")


def _plain_text(text: str, path: str) -> str:
    if "\0" in text:
        refuse(path, text, "holds a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        refuse(path, text, "holds half of a surrogate pair")
    return text


_uuid7_lock = threading.Lock()
_last_moment = 0


def uuid7() -> uuid.UUID:
    """Return a new time-ordered id: RFC 9562, version 7, method 3 of its section 6.2.

    The 12 bits after the milliseconds hold the fraction of the millisecond, and two ids of one
    process are never equal in those 60 bits: a later call gives a greater id.
    """
    global _last_moment
    with _uuid7_lock:
        nanoseconds = time.time_ns()
        milliseconds, rest = divmod(nanoseconds, 1_000_000)
        moment = (milliseconds << 12) | (rest * 4096 // 1_000_000)
        moment = _last_moment = max(moment, _last_moment + 1)
    high = (moment >> 12) << 16 | 0x7000 | (moment & 0xFFF)
    low = int.from_bytes(os.urandom(8)) & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
    return uuid.UUID(int=high << 64 | low)
