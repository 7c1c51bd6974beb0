"""Check and convert values before they are stored: timestamps, numbers, text and JSON."""

from __future__ import annotations

import enum
import json
import math
import operator
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, NoReturn

from .errors import ValidationError, show

MAX_METADATA_DEPTH = 64
INT_LIMIT = 10**4300  # Python parses no longer integers by default, so not from JSON either


def refuse(field: str, value: object, problem: str) -> NoReturn:
    """Raise `ValidationError`; `field` may be a path in metadata: `signal_metadata.bands[2]`."""
    name = re.split(r"[.\[]", field, maxsplit=1)[0]
    raise ValidationError(f"{field}: {show(value)} {problem}", field=name)


def positive_numbers(name: str, numbers: Mapping[str, float]) -> dict[str, float]:
    """Return numbers above 0 by text."""
    if not isinstance(numbers, Mapping):
        refuse(name, numbers, "is not a mapping of names to numbers")
    checked = {}
    for key, number in numbers.items():
        if not isinstance(key, str):
            refuse(name, key, "is not text")
        checked[plain_text(key)] = to_finite(f"{name}[{key!r}]", number)
        if checked[plain_text(key)] <= 0:
            refuse(f"{name}[{key!r}]", number, "is not greater than 0")
    return checked


def checked_rates(rates: Mapping[str, float] | None) -> dict[str, float]:
    """Return what one unit of other currencies is worth, by their names."""
    return {} if rates is None else positive_numbers("rates", rates)


def to_utc(field: str, value: object) -> datetime:
    """Return a datetime as aware UTC; naive input is taken as UTC."""
    if not isinstance(value, datetime) or value != value:  # pandas' NaT is a datetime
        refuse(field, value, "is not a datetime; pass one (naive ones are taken as UTC)")
    if type(value) is not datetime:  # such as pandas' Timestamp
        refuse_nanoseconds(field, value)
        value = datetime.fromisoformat(value.isoformat(timespec="microseconds"))
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except (OverflowError, ValueError):
        refuse(field, value, "is outside the years 1 to 9999 in UTC")


def refuse_nanoseconds(field: str, value: object) -> None:
    """Refuse a timestamp of pandas that has nanoseconds: microseconds are stored."""
    if getattr(value, "nanosecond", 0):
        refuse(field, value, "has nanoseconds, which are not stored; pass value.floor('us')")


def to_finite(field: str, value: object) -> float:
    """Return a number as a finite float; refuse text and bool."""
    number = to_float(field, value)
    if not math.isfinite(number):
        refuse(field, value, "is not a finite number")
    return number + 0.0  # -0.0 becomes 0.0, because SQLite does not store a negative zero


def to_exact(field: str, value: object) -> int | float:
    """Return a whole number as an int, of any size, and another one as a finite float."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        return _plain_int(int(value), field)
    number = to_finite(field, value)
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)
    return int(number) if number.is_integer() else number


def double_bound(number: int | float, compare: Callable[[Any, Any], Any]) -> float:
    """Return the double that compares with all doubles as the number does, by `ge`, `le` or `eq`.

    NaN, which is equal to nothing, stands for a number that no double is equal to.
    """
    try:
        double = float(number)
    except OverflowError:
        double = math.inf if number > 0 else -math.inf
    if compare(double, number):  # Python compares an int and a float exactly
        return double
    if compare is operator.eq:
        return math.nan
    return math.nextafter(double, math.inf if double < number else -math.inf)


def to_float(field: str, value: object) -> float:
    if type(value) is float:
        return value
    if not isinstance(value, (Real, Decimal)) or isinstance(value, bool):
        refuse(field, value, "is not a number; pass an int, a float or a Decimal")
    try:
        return float(value)
    except (OverflowError, ValueError):
        refuse(field, value, "does not fit a double")


def to_text(field: str, value: object) -> str:
    if not isinstance(value, str):
        refuse(field, value, "is not text")
    return plain_text(value)


def plain_text(text: str) -> str:
    """Return the text of a str whose class may override `__str__`, `__eq__` or `__hash__`.

    `str(member)` of a `class Symbol(str, Enum)` is its name, not its value.
    """
    return text if type(text) is str else str.__str__(text)


def to_json(plain: object, *, sort_keys: bool = False) -> str:
    return json.dumps(
        plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=sort_keys
    )


def is_equal_json(first: str, second: str) -> bool:
    """Return whether two JSON texts have the same value, as PostgreSQL's jsonb compares them."""
    return _is_equal(
        json.loads(first, parse_float=Decimal), json.loads(second, parse_float=Decimal)
    )


def _is_equal(first: Any, second: Any) -> bool:
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_is_equal(first[k], second[k]) for k in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_is_equal, first, second))
    return isinstance(first, bool) == isinstance(second, bool) and bool(first == second)


def checked_key(key: object) -> str:
    """Return the dotted key of a value in metadata, such as `bands.upper`."""
    text = plain_text(key) if isinstance(key, str) else ""
    if not all(text.split(".")):
        refuse("key", key, "is not a key of the metadata; use 'name' or, in an object, 'name.name'")
    return _plain_text(text, "key")


def plain_json(value: Any, path: str, depth: int) -> Any:
    """Return a value made only of dict, list, str, int, float, bool and None."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        return _plain_int(value, path)
    if kind is float:
        return _finite_or_none(value)
    if isinstance(value, str):  # before Enum, because the text of a str member is stored
        return _plain_text(plain_text(value), path)
    if isinstance(value, enum.Enum):
        return plain_json(value.value, path, depth)
    if depth >= MAX_METADATA_DEPTH and isinstance(value, (Mapping, list, tuple)):
        refuse(path, value, f"is nested deeper than {MAX_METADATA_DEPTH} levels")
    if isinstance(value, Mapping):
        plain: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                refuse(path, key, "is used as a key; JSON keys are text")
            name = _plain_text(plain_text(key), path)
            if name in plain:
                refuse(path, key, "is a duplicate key")
            plain[name] = plain_json(item, f"{path}.{name}", depth + 1)
        return plain
    if isinstance(value, (list, tuple)):
        return [plain_json(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, date):  # a datetime is a date, too
        if value != value:  # pandas' NaT
            return None
        return (to_utc(path, value) if isinstance(value, datetime) else value).isoformat()
    return _plain_scalar(value, path)


def _plain_scalar(value: Any, path: str) -> Any:
    """Return a number of another library as int, float, bool or None."""
    kind = type(value)
    if kind.__name__ == "NAType":  # pandas.NA, whose comparisons raise in a condition
        return None
    if isinstance(value, Decimal) or (isinstance(value, Real) and not isinstance(value, Integral)):
        try:
            return _finite_or_none(float(value))
        except (OverflowError, ValueError):  # a fraction too large for a double, a signaling NaN
            return None
    if isinstance(value, Integral):
        return _plain_int(int(value), path)
    if kind.__module__ == "numpy":
        if kind.__name__ in ("bool", "bool_"):
            return bool(value)
        if kind.__name__ == "datetime64":
            timestamp = value.astype("datetime64[us]")
            if timestamp.item() is None:
                return None
            if timestamp != value:
                refuse(path, value, "has nanoseconds; pass value.astype('datetime64[us]')")
            return to_utc(path, timestamp.item()).isoformat()
    names = [cls.__name__ for cls in kind.__mro__]
    remedy = next((_JSON_REMEDIES[name] for name in names if name in _JSON_REMEDIES), "")
    refuse(path, value, f"cannot be stored as JSON ({kind.__name__}){remedy}")


# the name of a class -> what to pass instead
_JSON_REMEDIES = {
    "DataFrame": "; pass value.to_dict('records')",
    "Series": "; pass value.to_dict(), or value.tolist()",
    "Index": "; pass value.tolist()",
    "ndarray": "; pass value.tolist()",
    "timedelta": "; pass value.total_seconds()",
    "timedelta64": "; pass value / numpy.timedelta64(1, 's')",
    "Period": "; pass str(value)",
    "complex": "; pass [value.real, value.imag]",
    "set": "; pass sorted(value)",
    "frozenset": "; pass sorted(value)",
    "bytes": "; pass value.decode(), or value.hex()",
    "bytearray": "; pass value.decode(), or value.hex()",
    "time": "; pass value.isoformat()",
}


def _finite_or_none(number: float) -> float | None:
    # -0.0 becomes 0.0, because jsonb does not store a negative zero
    return number + 0.0 if math.isfinite(number) else None


def _plain_int(number: int, path: str) -> int:
    if not -INT_LIMIT < number < INT_LIMIT:
        refuse(path, number, "has more than 4,300 digits")
    return number


def _plain_text(text: str, path: str) -> str:
    try:
        return stored_text(text)
    except ValueError as error:
        refuse(path, text, str(error))


def stored_text(text: str) -> str:
    """Return a text that every database can store; raise `ValueError` for another one."""
    if "\0" in text:
        raise ValueError("has a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("has a lone surrogate") from None
    return text


def flatten(metadata: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of metadata, with dotted keys for nested objects."""
    if not isinstance(metadata, dict):
        return
    for name, value in metadata.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def named_time_zone(name: str) -> tzinfo:
    """Return a time zone from its name in the IANA database, which UTC does not need.

    Raises:
        Exception: There is none; of which class depends on the text.
    """
    if name in ("UTC", "GMT"):
        return UTC
    from zoneinfo import ZoneInfo  # late: `import botmemory` needs none

    return ZoneInfo(name)


def refuse_time_zone(field: str, value: object, reason: str) -> NoReturn:
    """Raise `ValidationError` for a time zone; Windows comes without a database of them."""
    from zoneinfo import available_timezones

    if isinstance(value, str) and not available_timezones():
        reason = "is not known: this system has no time zones; install the package tzdata from PyPI"
    refuse(field, value, reason)


def checked_time_zone(tz: object) -> tzinfo:
    """Return a time zone from its name in the IANA database; UTC for None."""
    if tz is None:
        return UTC
    try:
        zone = named_time_zone(plain_text(tz)) if isinstance(tz, str) else tz
        if isinstance(zone, tzinfo) and datetime.now(zone).utcoffset() is not None:
            return zone
    except (KeyError, ValueError, OSError):  # not found, not a name, a folder
        pass
    except (NotImplementedError, TypeError):  # a tzinfo of the caller's own
        pass
    refuse_time_zone("tz", tz, "is not a time zone; use a name such as 'Europe/Berlin' or a tzinfo")
