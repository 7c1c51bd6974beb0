"""What each type of column holds: the values it accepts, and how files write and read them.

One table for Peewee's field types. Botmemory's own types, in `fields`, check their values by
themselves; this table says how files have them.
"""

from __future__ import annotations

import decimal
import json
import math
import socket
import uuid
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from functools import cache
from numbers import Integral, Real
from typing import Any, NamedTuple

import peewee

from ._values import plain_json, plain_text, refuse, refuse_nanoseconds, stored_text, to_json
from .errors import ValidationError
from .fields import MetadataField, UtcDateTimeField

__all__ = [
    "Column",
    "Kind",
    "clean_value",
    "column_of",
    "json_value",
    "may_change_in_place",
    "to_driver",
]

# --- values -----------------------------------------------------------------------------------
# Each function gets a field and a value that is not None. It returns the value as it will be read
# again, or raises ValueError with what is wrong about it.


def _boolean(field: Any, value: Any) -> bool:
    is_bool = isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")
    if not is_bool and not (isinstance(value, Integral) and value in (0, 1)):
        raise ValueError("is not True or False")
    return bool(value)


def _to_int(value: Any) -> int:
    return int(value)


def _integer(bits: int) -> Callable[[Any, Any], int]:
    def clean(field: Any, value: Any) -> int:
        if not isinstance(value, (Real, Decimal, str)):
            raise ValueError("is not a whole number")
        number = _to_int(plain_text(value) if isinstance(value, str) else value)
        if number != value and not isinstance(value, str):
            raise ValueError("is not a whole number")
        if not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
            wider = "; use a BigIntegerField" if bits < 64 else ""
            raise ValueError(f"does not fit {bits} bits{wider}")
        return number

    return clean


def _number(field: Any, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (Real, Decimal, str)):
        raise ValueError("is not a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("is not a finite number")
    return number + 0.0  # -0.0 becomes 0.0, because SQLite does not store a negative zero


def _decimal(field: Any, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (Real, Decimal, str)):
        raise ValueError("is not a number")
    number = value if isinstance(value, Decimal) else Decimal(str(value))
    if not number.is_finite():
        raise ValueError("is not a finite number")
    with decimal.localcontext(prec=max(field.max_digits, 1) + 400):
        step = Decimal(1).scaleb(-field.decimal_places)
        rounded = number.quantize(step, rounding=field.rounding)
        if rounded != number and not field.auto_round:
            raise ValueError(f"has more than {field.decimal_places} decimal places")
        if abs(rounded) >= Decimal(10) ** (field.max_digits - field.decimal_places):
            raise ValueError(f"has more than {field.max_digits} digits")
    if not getattr(field.model._meta.database, "has_exact_decimals", False):
        is_integer = rounded == rounded.to_integral_value() and abs(rounded) < 2**63
        if not is_integer and Decimal(repr(float(rounded))) != rounded:
            raise ValueError("has more digits than a number of SQLite has; use a TextField")
    return rounded if rounded else abs(rounded)


def _text(field: Any, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("is not text")
    text = stored_text(plain_text(value))
    longest = getattr(field, "max_length", None)
    if isinstance(field, peewee.FixedCharField):
        text = text.strip()
    if longest and len(text) > longest:
        raise ValueError(f"has {len(text)} characters; at most {longest} are allowed")
    return text


def _bytes(field: Any, value: Any) -> bytes:
    if isinstance(value, str):
        return plain_text(value).encode()
    if not isinstance(value, (bytes, bytearray, memoryview, peewee.BigBitFieldData)):
        raise ValueError("is not bytes")
    return bytes(value)


def _uuid(field: Any, value: Any) -> uuid.UUID:
    if isinstance(value, uuid.UUID):
        return value
    if isinstance(value, bytes):
        return uuid.UUID(bytes=value)
    if isinstance(value, str):
        return uuid.UUID(plain_text(value))
    raise ValueError("is not a UUID")


def _datetime(field: Any, value: Any) -> datetime:
    timestamp = field.adapt(plain_text(value)) if isinstance(value, str) else value
    if not isinstance(timestamp, datetime):
        if not isinstance(timestamp, date):
            raise ValueError("is not a datetime")
        timestamp = datetime.combine(timestamp, time())
    if timestamp != timestamp:  # pandas' NaT
        raise ValueError("is not a datetime")
    if type(timestamp) is not datetime:
        refuse_nanoseconds(field.name, timestamp)
        timestamp = datetime.fromisoformat(timestamp.isoformat(timespec="microseconds"))
    if timestamp.tzinfo is not None:
        raise ValueError(
            "has a time zone, which this column does not keep; declare it as "
            "botmemory.fields.UtcDateTimeField()"
        )
    return timestamp


def _date(field: Any, value: Any) -> date:
    day = field.adapt(plain_text(value) if isinstance(value, str) else value)
    if isinstance(day, datetime):
        day = day.date()
    if not isinstance(day, date):
        raise ValueError("is not a date")
    return day


def _time(field: Any, value: Any) -> time:
    clock = field.adapt(plain_text(value) if isinstance(value, str) else value)
    if not isinstance(clock, time):
        raise ValueError("is not a time")
    if clock.tzinfo is not None:
        raise ValueError("has a time zone, which this column does not keep")
    return clock


def _timestamp(field: Any, value: Any) -> datetime:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number and not isinstance(value, (str, date)):
        raise ValueError("is not a datetime")
    stored = field.db_value(value)
    if not -(2**63) <= stored < 2**63:
        raise ValueError("does not fit 64 bits")
    timestamp: datetime = field.python_value(stored)
    return timestamp


def _ip(field: Any, value: Any) -> str:
    text = plain_text(value) if isinstance(value, str) else str(value)
    if socket.inet_ntoa(socket.inet_aton(text)) != text:  # "1.2" stands for 1.0.0.2
        raise ValueError("is not an address")
    return text


def _json(field: Any, value: Any) -> Any:
    return plain_json(value, field.name, 0)


# --- files ------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _iso(value: Any) -> str:
    return value.isoformat() if isinstance(value, (date, time)) else str(value)


def _microseconds(value: Any) -> str:
    text: str = value.isoformat(" ", "microseconds")
    return text


# base64 is imported late, because few tables have bytes


def _base64(value: Any) -> str:
    import base64

    return base64.b64encode(bytes(value)).decode()


def _from_base64(text: str) -> bytes:
    import base64

    return base64.b64decode(text, validate=True)


def _to_boolean(text: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[text.lower()]


class Kind(NamedTuple):
    """How files have the values of a column: CSV and JSON Lines as JSON, Parquet typed."""

    name: str
    expected: str  # what a text in a file must be
    to_json: Callable[[Any], Any]
    from_text: Callable[[str], Any]
    arrow: str  # the type in Parquet: "string" has what JSON Lines has


TEXT = Kind("text", "text", _plain, str, "string")
INTEGER = Kind("integer", "whole number", _plain, int, "int64")
NUMBER = Kind("number", "number", _plain, float, "float64")
BOOLEAN = Kind("boolean", "true or false", bool, _to_boolean, "bool")
DECIMAL = Kind("decimal", "number", str, Decimal, "string")
TIMESTAMP = Kind("timestamp", "timestamp in ISO 8601", _microseconds, datetime.fromisoformat, "utc")
DATETIME = Kind("datetime", "time in ISO 8601", _microseconds, datetime.fromisoformat, "naive")
DATE = Kind("date", "date in ISO 8601", _iso, date.fromisoformat, "date32")
TIME = Kind("time", "time of day in ISO 8601", _iso, time.fromisoformat, "time")
ID = Kind("id", "UUID", str, str, "string")
BYTES = Kind("bytes", "Base64 text", _base64, _from_base64, "binary")
JSON = Kind("json", "JSON", _plain, json.loads, "string")

# each type before those that it is a subclass of
_COLUMNS: tuple[tuple[type[peewee.Field[Any]], Kind, Callable[[Any, Any], Any]], ...] = (
    (UtcDateTimeField, TIMESTAMP, _datetime),
    (MetadataField, JSON, _json),
    (peewee.BooleanField, BOOLEAN, _boolean),
    (peewee.BinaryUUIDField, ID, _uuid),
    (peewee.BlobField, BYTES, _bytes),  # a BigBitField is one
    (peewee.UUIDField, ID, _uuid),
    (peewee.IPField, TEXT, _ip),
    (peewee.TimestampField, DATETIME, _timestamp),
    (peewee.SmallIntegerField, INTEGER, _integer(16)),
    (peewee.BigIntegerField, INTEGER, _integer(64)),  # a BitField is one
    (peewee.BigAutoField, INTEGER, _integer(64)),
    (peewee.IntegerField, INTEGER, _integer(32)),
    (peewee.FloatField, NUMBER, _number),
    (peewee.DecimalField, DECIMAL, _decimal),
    (peewee.CharField, TEXT, _text),
    (peewee.TextField, TEXT, _text),
    (peewee.DateTimeField, DATETIME, _datetime),
    (peewee.DateField, DATE, _date),
    (peewee.TimeField, TIME, _time),
    (peewee.JSONField, JSON, _json),
)
_METHODS = ("adapt", "db_value", "python_value")


class Column(NamedTuple):
    """How the values of one field are checked, and how files have them; None is NULL there."""

    name: str  # of the field
    field: Any  # the one that has the type: of a foreign key, the field that it refers to
    kind: Kind
    clean: Callable[[Any, Any], Any]
    converts: bool  # the field has a conversion of its own: files have what the database has

    def may_be_empty(self) -> bool:
        """Return whether an empty text is a value of its own, not NULL."""
        return self.kind in (TEXT, BYTES) and not hasattr(self.field, "clean")

    def to_typed(self, value: Any) -> Any:
        """Return a value as a column of Parquet has it that is not text."""
        if value is None:
            return None
        stored = _unwrapped(self.field.db_value(value)) if self.converts else value
        return bytes(stored) if self.kind is BYTES else stored

    def to_json(self, value: Any) -> Any:
        """Return a value as JSON has it."""
        return None if value is None else self.kind.to_json(self.to_typed(value))

    def from_json(self, value: Any) -> Any:
        """Return the value for what JSON, a cell of CSV or Parquet has.

        Raises:
            ValidationError: A text is not of this kind.
        """
        if value is None:
            return None
        if type(value) is str and self.kind not in (TEXT, JSON):
            try:
                value = self.kind.from_text(value)
            except (ValueError, KeyError, ArithmeticError):
                refuse(self.name, value, f"is not a {self.kind.expected}")
        return self.field.python_value(value) if self.converts else value


def _unwrapped(stored: Any) -> Any:
    """Return bytes without the wrapper that psycopg's `Binary` puts around them."""
    return stored.obj if type(stored).__name__ == "Binary" else stored


@cache  # by the class: fields of two models with one name would be equal
def _of_class(
    field_class: type[peewee.Field[Any]],
) -> tuple[Kind, Callable[[Any, Any], Any], bool] | None:
    """Return the kind of a field class, its check, and whether it has a conversion of its own."""
    for known, kind, clean in _COLUMNS:
        if issubclass(field_class, known):
            # these two of Peewee's convert what their base class does not
            is_peewees = field_class in (peewee.FixedCharField, peewee.BigBitField)
            converts = not (is_peewees or hasattr(field_class, "clean")) and any(
                getattr(field_class, name) is not getattr(known, name) for name in _METHODS
            )
            return kind, clean, converts
    return None


def column_of(field: Any) -> Column | None:
    """Return what is known of a field; None for a type that is not in the table."""
    own = field
    while isinstance(own, peewee.ForeignKeyField):
        own = own.rel_field
    own_class: Any = type(own)
    found = _of_class(own_class)
    return None if found is None else Column(field.name, own, *found)


def may_change_in_place(field: Any) -> bool:
    """Return whether a value of a field may be an object that can be changed, such as a dict."""
    column = column_of(field)
    if column is None or column.converts or column.kind is JSON:
        return True
    return isinstance(field, peewee.BigBitField)


def clean_value(field: Any, value: Any) -> Any:
    """Return a value of one of Peewee's field types as it will be read again.

    Raises:
        ValidationError: The field cannot hold it.
    """
    field_class: Any = type(field)
    known = _of_class(field_class)
    try:
        if known is not None and not known[2]:
            return known[1](field, value)
        stored = _unwrapped(field.db_value(plain_text(value) if isinstance(value, str) else value))
        if known is not None:  # what it converts to must fit the type that it is based on
            known[1](field, stored)
        elif not isinstance(stored, (bool, int, float, str, bytes, Decimal, date, time)):
            raise ValueError("is not a value of a column")
        return field.python_value(stored)
    except ValidationError:
        raise
    # also what the conversion of a field of one's own raises
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, OSError) as error:
        reason = str(error)
        if not reason.startswith(("is not", "has ", "does not")):
            reason = f"does not fit its {type(field).__name__}"
        refuse(field.name, value, reason)


def json_value(field: Any, value: Any) -> Any:
    """Return a value as JSON has it; that of an unknown type as it is."""
    column = column_of(field)
    return value if column is None else column.to_json(value)


def to_driver(field: Any) -> Callable[[Any], Any] | None:
    """Return what converts a field's value for the driver; None where the driver takes it."""
    if isinstance(field, peewee.JSONField) and not hasattr(field, "to_driver"):
        # not `db_value`, which returns a function of SQL
        return lambda value: field.model._meta.database.json_text(to_json(value))
    convert: Callable[[Any], Any] | None = getattr(field, "to_driver", field.db_value)
    return convert
