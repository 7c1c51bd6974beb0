"""Numbers and times as files from elsewhere write them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal, InvalidOperation
from numbers import Real
from typing import Any

from ..._values import refuse
from ...errors import ValidationError
from .._ids import NO_IDS
from ._layout import EPOCH_UNITS, Layout, zone_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EXCEL_EPOCH = datetime(1899, 12, 30)  # noqa: DTZ001  (serial numbers have no time zone)
# the years 1990 to 2100, as days of Excel and seconds since 1970
EXCEL_DAYS = (32_874, 73_051)
EPOCH_SECONDS = (631_152_000, 4_102_444_800)
NOTHING = NO_IDS | {"-", "--"}  # what files write where there is no number
CURRENCY_SIGNS = "$€£¥"
ISO = re.compile(
    r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})"
    r"(?:(?:[T,]| )\s*(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d+))?)?)?"
    r"\s*(Z|UTC|GMT|[+-]\d\d:?(?:\d\d)?)?(?: UTC)?",
    re.IGNORECASE,
)


def is_missing(cell: object) -> bool:
    """Return whether a cell is empty: None, NaN, or NaT and NA of pandas."""
    try:
        return cell is None or bool(cell != cell)
    except (TypeError, ValueError):  # NA is neither equal nor unequal
        return type(cell).__name__ == "NAType"
    except InvalidOperation:  # a signaling NaN of Decimal
        return True


def is_nothing(cell: object) -> bool:
    """Return whether a cell holds no number, id or time: it is missing, or a text such as "-"."""
    return cell.strip().lower() in NOTHING if isinstance(cell, str) else is_missing(cell)


def to_number(name: str, cell: object, layout: Layout) -> Decimal | None:
    """Return the number that a cell holds; None if it holds nothing.

    Raises:
        ValidationError: It is not a number, written as the layout says.
    """
    if is_nothing(cell):
        return None
    if isinstance(cell, (Real, Decimal)) and not isinstance(cell, bool):
        return Decimal(str(cell))
    if not isinstance(cell, str):
        refuse(name, cell, "is not a number")
    text = re.sub(r"[\s\u00a0\u202f]", "", cell).strip(CURRENCY_SIGNS)
    text = re.sub(r"\((.+)\)", r"-\1", text)  # as spreadsheets write what is below 0
    if layout.thousands:
        whole, point, fraction = text.partition(layout.decimal)
        groups = whole.split(layout.thousands)
        # 1,5 is no number of thousands
        if all(len(group) == 3 for group in groups[1:]) and groups[0].lstrip("+-"):
            text = "".join(groups) + point + fraction
    if layout.decimal != ".":
        text = text.replace(".", " ").replace(layout.decimal, ".")
    try:
        if "_" not in text:
            number = Decimal(text)
            if number.is_finite():
                return number
    except InvalidOperation:
        pass
    refuse(name, cell, f"is not a number{_hint(cell, layout)}")


def _hint(text: str, layout: Layout) -> str:
    if not re.fullmatch(r"[-+]?[\d.,'\s]+", text.strip(CURRENCY_SIGNS + " ")):
        return ""
    between = "'" if "'" in text else "." if layout.decimal == "," and "." in text else ""
    if between and not layout.thousands:
        return f"; if {between!r} separates thousands, pass thousands={between!r}"
    if layout.decimal == "." and re.search(r"\.\d{3},\d", text):
        return "; if the comma is its decimal point, pass decimal=',' and thousands='.'"
    if layout.decimal == "." and re.search(r",\d{3}(\D|$)", text) and not layout.thousands:
        return "; if the comma separates thousands, pass thousands=','; if it is a decimal " + (
            "point, decimal=','"
        )
    if layout.decimal == "." and "," in text:
        return "; if the comma is its decimal point, pass decimal=','"
    return f"; the decimal point is {layout.decimal!r}" + (
        f", and {layout.thousands!r} separates thousands" if layout.thousands else ""
    )


def to_time(
    cell: object, layout: Layout, time_zone: str | None = None
) -> tuple[datetime | None, str]:
    """Return the time in UTC that a cell holds, and a warning or "".

    `time_zone` is that of the row or of the column, where the file says it.

    Raises:
        ValidationError: It is not a time, written as the layout says.
    """
    if is_nothing(cell):
        return None, ""
    if isinstance(cell, datetime):  # of Parquet or a data frame; that of pandas has nanoseconds
        without_nanoseconds = getattr(cell, "to_pydatetime", None)
        local: Any = without_nanoseconds(warn=False) if without_nanoseconds else cell
    elif isinstance(layout.date_format, str) and layout.date_format in EPOCH_UNITS:
        return _from_epoch(cell, layout), ""
    elif layout.date_format == "excel":
        local = _from_excel(cell, layout)
    elif type(cell) is date:
        local = datetime.combine(cell, time_of_day())
    elif layout.date_format is not None:
        local = _from_format(cell, layout.date_format)
    else:
        local = _from_iso(cell)
    if local.tzinfo is not None:
        return local, ""
    return _in_zone(local, time_zone or layout.time_zone)


def _in_zone(local: datetime, time_zone: str) -> tuple[datetime, str]:
    zone = zone_of(time_zone)
    times = [local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
    if times[0] == times[1]:
        return times[0], ""
    text = f"{local:%Y-%m-%d %H:%M:%S}"
    if times[0].astimezone(zone).replace(tzinfo=None) != local:
        refuse("timestamp", text, f"does not exist in {time_zone}: the clocks were set forward")
    return times[0], (
        f"timestamp: {text} is twice in {time_zone}, where the clocks were set back; the first is "
        "recorded"
    )


def _number_of_time(cell: object, layout: Layout) -> Decimal:
    try:
        number = to_number("timestamp", cell, layout)
    except ValidationError:
        refuse("timestamp", cell, f"is not a number of date_format={layout.date_format!r}")
    assert number is not None  # noqa: S101  (it is not empty)
    return number


def _from_epoch(cell: object, layout: Layout) -> datetime:
    unit = str(layout.date_format)
    number = _number_of_time(cell, layout)
    seconds = number / EPOCH_UNITS[unit]
    if not EPOCH_SECONDS[0] <= seconds < EPOCH_SECONDS[1]:
        refuse("timestamp", cell, f"is no time in {unit} since 1970{_likely(number)}")
    return EPOCH + timedelta(microseconds=int(seconds * 10**6))


def _from_excel(cell: object, layout: Layout) -> datetime:
    number = _number_of_time(cell, layout)
    if not EXCEL_DAYS[0] <= number < EXCEL_DAYS[1]:
        refuse("timestamp", cell, f"is no serial number of Excel{_likely(number)}")
    # a double of Excel has 5 decimal digits of a second
    return EXCEL_EPOCH + timedelta(milliseconds=round(number * 86_400_000))


def _from_format(cell: object, date_format: str | Sequence[str]) -> datetime:
    # strptime takes 6 digits of a fraction
    text = re.sub(r"(\.\d{6})\d+", r"\1", str(cell).strip())
    for each in [date_format] if isinstance(date_format, str) else date_format:
        try:
            return datetime.strptime(text, each)  # noqa: DTZ007  (the layout has the zone)
        except ValueError:
            pass
    refuse("timestamp", cell, f"does not fit date_format={date_format!r}")


def _from_iso(cell: object) -> datetime:
    text = str(cell).strip()
    found = ISO.fullmatch(text)
    if found is None:
        problem = "is not a time in ISO 8601, such as 2024-01-31 09:30:00"
        refuse("timestamp", cell, f"{problem}{_time_hint(text)}")
    year, _, month, day, hour, minute, second, fraction, offset = found.groups()
    iso = f"{year}-{month:0>2}-{day:0>2}T{hour or '0':0>2}:{minute or '00'}:{second or '00'}"
    if fraction:
        iso += f".{fraction[:6]:0<6}"
    if offset:
        iso += "+00:00" if offset.upper() in ("Z", "UTC", "GMT") else offset
    try:
        return datetime.fromisoformat(iso)
    except ValueError as error:
        refuse("timestamp", cell, f"is not a time: {error}")


def _time_hint(text: str) -> str:
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return f"{_likely(Decimal(text))}; pass date_format='s', 'ms', 'us', 'ns' or 'excel'"
    if found := re.match(r"\d{1,2}([/.-])\d{1,2}\1\d\d(\d\d)?", text):
        by, rest = found[1], text[found.end() :]
        time = "".join((" %H:%M", ":%S" * (rest.count(":") > 1), ".%f" * ("." in rest)))
        if re.search("[AP]M", rest, re.IGNORECASE):
            time = f"{time.replace('%H', '%I')} %p"
        time = f"{'%Y' if found[2] else '%y'}{time if rest else ''}"
        day_first, month_first = f"%d{by}%m{by}{time}", f"%m{by}%d{by}{time}"
        return f"; say which comes first: date_format={day_first!r} or {month_first!r}"
    return "; pass how it is written, such as date_format='%d %b %Y %H:%M'"


def _likely(number: Decimal) -> str:
    """Return which kind of number is likely to be a time."""
    for unit, per_second in EPOCH_UNITS.items():
        if EPOCH_SECONDS[0] <= number / per_second < EPOCH_SECONDS[1]:
            names = {
                "s": "seconds",
                "ms": "milliseconds",
                "us": "microseconds",
                "ns": "nanoseconds",
            }
            return f"; it may be in {names[unit]}"
    if EXCEL_DAYS[0] <= number < EXCEL_DAYS[1]:
        return "; it may be a serial number of Excel"
    return ""
