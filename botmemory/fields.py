"""Column types: which values a column accepts, how they are stored, and what is read back.

Each field adds to Peewee's methods:

- `clean(value)` validates a value that is to be stored, and returns it as it will be read back.
  Peewee's `db_value(value)` is used in comparisons, too, and therefore only converts: `price > 0`
  is a valid condition although 0 is not a valid price.
- `to_driver(value)` and `from_driver(value)` convert a clean value, which is not None, for compiled
  queries. They are None where the driver takes and returns the value as it is; for a field without
  them, Peewee's `db_value` and `python_value` convert it.
"""

from __future__ import annotations

import enum
import sys
import uuid
from datetime import UTC, datetime
from numbers import Integral, Real
from typing import Any, TypeGuard

import peewee

from ._values import plain_json, plain_text, refuse, to_finite, to_float, to_json, to_text, to_utc
from .config import Config
from .uuid7 import uuid_of

__all__ = [
    "AutoIdField",
    "ChoiceField",
    "DoubleField",
    "IdField",
    "LabelField",
    "MetadataField",
    "OptionalLabelField",
    "ReferenceField",
    "SideField",
    "TextChoiceField",
    "UtcDateTimeField",
]


# looked up once, and not for each of a million rows
_from_iso_format = datetime.fromisoformat
_MAX_DOUBLE = sys.float_info.max


class UtcDateTimeField(peewee.Field):
    """A timestamp in UTC: text of fixed width on SQLite, `timestamptz` on PostgreSQL."""

    field_type = "TIMESTAMPTZ"

    def clean(self, value: object) -> datetime:
        """Return a datetime in UTC; a naive one is taken as UTC.

        Raises:
            ValidationError: It is not a datetime, or is outside the years 1 to 9999.
        """
        if type(value) is datetime and value.tzinfo is UTC:
            return value
        return to_utc(self.name, value)

    def db_value(self, value: object) -> str | None:
        # text with an offset on both backends, so that the session's time zone does not matter
        if value is None:
            return None
        return to_utc(self.name, value).isoformat(" ", "microseconds")

    def python_value(self, value: Any) -> datetime | None:
        return None if value is None else self.from_driver(value)

    def to_driver(self, value: datetime) -> str:
        return value.isoformat(" ", "microseconds")

    def from_driver(self, value: Any) -> datetime:
        timestamp: datetime = _from_iso_format(value) if type(value) is str else value
        return timestamp if timestamp.tzinfo is UTC else to_utc(self.name, timestamp)


class DoubleField(peewee.DoubleField):
    """A finite 8-byte float.

    Args:
        positive: Accept only numbers greater than 0.
    """

    to_driver = from_driver = None

    def __init__(self, *args: Any, positive: bool = False, **kwargs: Any) -> None:
        self.positive = positive
        super().__init__(*args, **kwargs)

    def clean(self, value: object) -> float:
        """Return an int, float, Decimal or NumPy number as a float.

        Raises:
            ValidationError: It is not a finite number, or not a positive one.
        """
        if type(value) is float and -_MAX_DOUBLE <= value <= _MAX_DOUBLE:
            number = value + 0.0  # as to_finite() does
        else:
            number = to_finite(self.name, value)
        if self.positive and not number > 0:
            refuse(self.name, value, "is not greater than 0")
        return number

    def db_value(self, value: object) -> float | None:
        if value is None:
            return None
        number = to_float(self.name, value)
        if number != number:
            refuse(self.name, value, "is not a number, and equal to none")
        return number


class LabelField(peewee.CharField):
    """A short name: 1 to `max_length` printable characters, without a space at either end."""

    to_driver = from_driver = None
    min_length = 1

    def clean(self, value: object) -> str:
        """Return the text.

        Raises:
            ValidationError: It is not such a name.
        """
        text = value if type(value) is str else to_text(self.name, value)
        if not 1 <= len(text) <= self.max_length:
            refuse(
                self.name, value, f"has {len(text)} characters; 1 to {self.max_length} are allowed"
            )
        if not text.isprintable():
            refuse(self.name, value, "contains a character that is not printable")
        if text[0] == " " or text[-1] == " ":
            refuse(self.name, value, "begins or ends with a space")
        return text

    def db_value(self, value: object) -> str | None:
        return None if value is None else to_text(self.name, value)

    # Peewee would put `str(value)` into the pattern, which is not the text of every subclass

    def contains(self, rhs: Any) -> Any:
        return super().contains(_pattern(rhs))

    def startswith(self, rhs: Any) -> Any:
        return super().startswith(_pattern(rhs))

    def endswith(self, rhs: Any) -> Any:
        return super().endswith(_pattern(rhs))


class OptionalLabelField(LabelField):
    """A short name, or "" for none: for a column of a key, which cannot be NULL."""

    min_length = 0

    def clean(self, value: object) -> str:
        """Return the text.

        Raises:
            ValidationError: It is neither "" nor such a name.
        """
        return super().clean(value) if value != "" else ""


def _pattern(value: Any) -> Any:
    return plain_text(value) if isinstance(value, str) else value


class SideField(peewee.CharField):
    """A member of an enum of texts, stored as its value.

    Args:
        enum_class: The enum.
    """

    # Peewee's EnumField does the same; importing its module takes a tenth of Peewee's own time

    def __init__(self, enum_class: type[enum.Enum], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, choices=[(m.value, m.name) for m in enum_class], **kwargs)
        self.enum_class = enum_class
        self._members: dict[object, enum.Enum] = {member.value: member for member in enum_class}

    def clean(self, value: object) -> enum.Enum:
        """Return the member for a member or its value.

        Raises:
            ValidationError: There is no such member.
        """
        if isinstance(value, str) and (by_value := self._members.get(value)) is not None:
            return by_value
        try:
            member: enum.Enum = self.enum_class(value)
        except ValueError:
            values = " or ".join(repr(member.value) for member in self.enum_class)
            refuse(self.name, value, f"is not a side; use {values}")
        return member

    def db_value(self, value: object) -> object:
        return None if value is None else self.clean(value).value

    def python_value(self, value: object) -> enum.Enum | None:
        return None if value is None else self.from_driver(value)

    def to_driver(self, value: enum.Enum) -> object:
        return value.value

    def from_driver(self, value: object) -> enum.Enum:
        member: enum.Enum = self._members.get(value) or self.enum_class(value)
        return member


def _is_int(value: object) -> TypeGuard[Integral]:
    return isinstance(value, Integral) and not isinstance(value, bool)


class ChoiceField(peewee.SmallIntegerField):
    """An int out of a fixed set.

    Args:
        choices: The ints that are accepted.
    """

    to_driver = from_driver = None

    def __init__(self, *args: Any, choices: tuple[int, ...], **kwargs: Any) -> None:
        super().__init__(*args, choices=[(n, str(n)) for n in choices], **kwargs)
        self.values = choices

    def clean(self, value: Any) -> int:
        """Return the int.

        Raises:
            ValidationError: It is not one of the choices; True is not an int here.
        """
        # a float too, as NumPy's sign() returns one
        if isinstance(value, Real) and not isinstance(value, bool) and value in self.values:
            return self.values[self.values.index(value)]
        refuse(self.name, value, f"is not one of {', '.join(map(str, self.values))}")


class TextChoiceField(LabelField):
    """A text out of a fixed set.

    Args:
        choices: The texts that are accepted.
    """

    def __init__(self, *args: Any, choices: tuple[str, ...], **kwargs: Any) -> None:
        longest = max(map(len, choices))
        choice_pairs = [(text, text) for text in choices]
        super().__init__(*args, choices=choice_pairs, max_length=longest, **kwargs)
        self.values = choices

    def clean(self, value: object) -> str:
        """Return the text.

        Raises:
            ValidationError: It is not one of the choices.
        """
        if isinstance(value, str) and (text := plain_text(value)) in self.values:
            return text
        refuse(self.name, value, f"is not one of {', '.join(self.values)}")


class IdField(peewee.UUIDField):
    """A UUID."""

    def clean(self, value: object) -> uuid.UUID:
        """Return a `uuid.UUID`, or text in any of the spellings it accepts, as a `uuid.UUID`.

        Raises:
            ValidationError: It is not a UUID.
        """
        if isinstance(value, uuid.UUID):
            return value
        if isinstance(value, str):
            try:
                return uuid.UUID(plain_text(value))
            except ValueError:
                pass
        refuse(self.name, value, "is not a UUID")

    def db_value(self, value: object) -> object:
        return None if value is None else self.clean(value).hex

    def to_driver(self, value: uuid.UUID) -> str:
        return value.hex

    def from_driver(self, value: Any) -> uuid.UUID:
        if type(value) is not str:
            return value  # type: ignore[no-any-return]
        return uuid_of(int(value, 16))  # a check constraint allows only 32 hexadecimal digits


class AutoIdField(peewee.BigAutoField):
    """An auto-increment id: an int that the database assigns, from 1 on."""

    to_driver = from_driver = None

    def clean(self, value: object) -> int:
        """Return the int.

        Raises:
            ValidationError: It is not an int from 0 to 2**63 - 1.
        """
        if not _is_int(value) or not 0 <= int(value) < 2**63:
            refuse(self.name, value, "is not an id; ids are whole numbers")
        return int(value)


class ReferenceField(peewee.ForeignKeyField):
    """A foreign key: a row of another table, or its id."""

    @property
    def from_driver(self) -> Any:
        return getattr(self.rel_field, "from_driver", self.rel_field.python_value)

    def clean(self, value: Any) -> Any:
        """Return the id of a row or an id.

        Raises:
            ValidationError: The row is not stored yet, or the value is neither a row nor an id.
        """
        key = value.get_id() if isinstance(value, self.rel_model) else value
        if key is None:
            refuse(
                self.name, value, f"is not stored yet; record the {self.rel_model.__name__} first"
            )
        clean = getattr(self.rel_field, "clean", self.rel_field.adapt)
        try:
            return clean(key)
        except (ValueError, TypeError):  # ValidationError is a ValueError
            name = self.rel_model.__name__
            refuse(self.name, value, f"is neither a {name} nor the id of one")

    def db_value(self, value: object) -> Any:
        return None if value is None else self.rel_field.db_value(self.clean(value))

    def to_driver(self, value: Any) -> Any:
        key = value.get_id() if isinstance(value, self.rel_model) else value
        convert = getattr(self.rel_field, "to_driver", self.rel_field.db_value)
        return key if convert is None else convert(key)


class MetadataField(peewee.JSONField):
    """Any JSON value, up to the setting `max_metadata_bytes`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(dumps=self._to_text, **kwargs)

    def clean(self, value: object) -> object:
        """Return a value made only of dict, list, str, int, float, bool and None.

        Scalars of NumPy and pandas, Decimal and Enum become numbers or text, datetime, date and
        UUID become text, and numbers that are not finite become None.

        Raises:
            ValidationError: A part of it cannot be stored as JSON; the message names its path.
        """
        return plain_json(value, self.name, 0)

    def to_driver(self, value: object) -> str:
        text: str = self.model._meta.database.json_text(self._to_limited_json(value))
        return text

    def _to_text(self, value: object) -> str:
        return self._to_limited_json(self.clean(value))

    def _to_limited_json(self, plain: object) -> str:
        text = to_json(plain)
        # a database of Peewee's, which the model was bound to, has none
        limit = getattr(self.model._meta.database, "config", Config).max_metadata_bytes
        # a character takes at most 4 bytes, so that short texts need not be encoded
        if len(text) * 4 > limit and (size := len(text.encode())) > limit:
            refuse(self.name, plain, f"takes {size:,} bytes; at most {limit:,} are allowed")
        return text
