"""What closed trades are grouped by: a column, a part of their time, a value in their metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal, get_args

from peewee import Case

from .._values import plain_text, refuse, to_json
from ..database import db
from ..models import OrderSide, Trade

Dimension = Literal[
    "symbol", "strategy", "exchange", "direction", "side",
    "day", "week", "month", "hour", "weekday",
]  # fmt: skip
Place = tuple[Any, Any]  # the order of a group, and its key

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# the order and the key of the group of a local time
TIME_KEYS: dict[str, Callable[[datetime], Place]] = {
    "day": lambda time: (time.toordinal(), time.date().isoformat()),
    "week": lambda time: (week := time.isocalendar()[:2], "{:04}-W{:02}".format(*week)),
    "month": lambda time: ((time.year, time.month), f"{time.year:04}-{time.month:02}"),
    "hour": lambda time: (time.hour, time.hour),
    "weekday": lambda time: (time.weekday(), WEEKDAYS[time.weekday()]),
}
NAMES: tuple[Dimension, ...] = get_args(Dimension)
TIME = "timestamp"


def checked_dimensions(dimension: object) -> tuple[Dimension, ...]:
    """Return the names of one or two dimensions."""
    given = dimension if isinstance(dimension, (tuple, list)) else (dimension,)
    names = tuple(plain_text(name) if isinstance(name, str) else None for name in given)
    if not {*names} <= {*NAMES}:
        refuse("dimension", dimension, f"is unknown; use one or two of {', '.join(NAMES)}")
    if not 1 <= len(names) <= 2 or len(set(names)) < len(names):
        refuse("dimension", dimension, "is not one dimension, or a tuple of two different ones")
    return names  # type: ignore[return-value]


def local(timestamp: datetime, time_zone: tzinfo) -> datetime:
    """Return a time in a time zone."""
    try:
        return timestamp.astimezone(time_zone)
    except OverflowError:
        refuse("tz", time_zone, f"has {timestamp} outside of the years 1 to 9999")


class Grouping:
    """One or two dimensions, or a value in the metadata of trades.

    Attributes:
        names: The names of the dimensions; none for a value in the metadata.
        key: The dotted key of that value, or None.
        fields: The fields of a trade that groups follow from, but its time and its direction.
    """

    def __init__(
        self, names: Sequence[Dimension], time_zone: tzinfo = UTC, key: str | None = None
    ) -> None:
        self.names, self.key, self._time_zone = names, key, time_zone
        self._columns = list(dict.fromkeys(TIME if name in TIME_KEYS else name for name in names))
        self.fields = [name for name in self._columns if name not in (TIME, "direction")]
        if key is not None:
            self.fields.append("trade_metadata")

    def expressions(self) -> list[Any]:
        """Return the columns by which the database groups trades; of their time the hour."""
        special = {TIME: lambda: db.hour_of(Trade.timestamp), "direction": _direction}
        return [
            special[name]() if name in special else getattr(Trade, name) for name in self._columns
        ]

    def place_in_database(self, values: Iterable[Any]) -> tuple[Place, ...] | None:
        """Return the order and the key of the group of the values of `expressions`.

        Returns:
            None if an hour in UTC is in two hours of the time zone.
        """
        named = dict(zip(self._columns, values, strict=True))
        if TIME in named:
            first, last = (
                local(named[TIME] + part, self._time_zone) for part in (timedelta(0), REST_OF_HOUR)
            )
            if first.utcoffset() != last.utcoffset() or first.hour != last.hour:
                return None
        return self.place(named)

    def place(self, values: Mapping[str, Any]) -> tuple[Place, ...]:
        """Return the order and the key of a group, a pair for each dimension."""
        places = []
        for name in self.names:
            if name in TIME_KEYS:
                places.append(TIME_KEYS[name](local(values[TIME], self._time_zone)))
            else:
                value = values[name]
                key = value.value if isinstance(value, OrderSide) else value
                places.append(((value is None, key), key))
        return tuple(places)


REST_OF_HOUR = timedelta(hours=1) - timedelta(microseconds=1)


def direction_of(side: OrderSide, pnl: float | None) -> str:
    """Return the direction of the position that a trade has closed, or opened without a PnL."""
    return "long" if (side is OrderSide.BUY) is (pnl is None) else "short"


def _direction() -> Any:
    """Return the expression of `direction_of`."""
    pnl, side = Trade.pnl, Trade.side
    opens_long = pnl.is_null() & (side == OrderSide.BUY)
    closes_long = pnl.is_null(False) & (side == OrderSide.SELL)
    return Case(None, [(opens_long | closes_long, "long")], "short")


# --- values in metadata -------------------------------------------------------------------------


def values_under(metadata: Any, key: str) -> list[Any]:
    """Return the value under a dotted key, or the elements of an array, without null."""
    value = _value_under(metadata, key)
    return [each for each in (value if isinstance(value, list) else [value]) if each is not None]


def has_array_under(metadata: Any, key: str) -> bool:
    """Return whether the value under a dotted key is an array."""
    return isinstance(_value_under(metadata, key), list)


def _value_under(metadata: Any, key: str) -> Any:
    for name in key.split("."):
        if not isinstance(metadata, Mapping):
            return None
        metadata = metadata.get(name)
    return metadata


def places_of(values: Iterable[Any]) -> set[tuple[Place, ...]]:
    """Return the order and the key of the group of each value."""
    return {(_place_of(value),) for value in values}


def _place_of(value: Any) -> Place:
    """Return the order and the key of the group of a value; an object is its JSON text."""
    if isinstance(value, bool):
        return (1, value), value
    if isinstance(value, (int, float)):
        return (0, value), value
    if isinstance(value, str):
        return (2, value), value
    key = to_json(value, sort_keys=True)
    return (3, key), key
