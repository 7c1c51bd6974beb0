"""How a file from elsewhere is read: what its columns are, and how it writes numbers and times."""

from __future__ import annotations

import os
import re
import tomllib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any, Literal, get_args

from ..._arguments import suggestion
from ..._values import named_time_zone, refuse, refuse_time_zone
from ...backends.sqlite.errors import translate_errors
from ...errors import ConfigError, ValidationError

Others = Literal["refuse", "metadata", "ignore"]

LAYOUTS = Path(__file__).parent / "layouts"
OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2})(?::?(\d\d))?", re.IGNORECASE)
ZONE_OF_NAME = re.compile(r"\s*\(((?:UTC|GMT)(?:[+-]\d{1,2}(?::?\d\d)?)?)\)\s*$", re.IGNORECASE)
EPOCH_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass(frozen=True, kw_only=True)
class Layout:
    r"""How a file from elsewhere is read.

    Names of columns are compared without case, spaces and underscores, and without a time zone at
    the end such as `(UTC+2)`, which is that of a column of timestamps. The second column of a name
    is `Name (2)`; `A | B` is the column A or, where there is none, B. Besides the columns of the
    table, a column of the file may be

    - `base`, `quote`: the symbol is `base/quote` where nothing else says it;
    - `cost`: the price is `cost / quantity` where nothing else says it; otherwise it is metadata;
    - `signed_quantity`: below 0 is a sale;
    - `closed_quantity`: of a position that is closed: above 0 is a sale;
    - `negative_fee`: below 0 where it was paid;
    - `sent`, `sent_currency`, `received`, `received_currency`: of rows with two amounts and no
      side; the quote currency is that which usually is one, or else the last by name;
    - `trade_metadata.KEY` (`signal_metadata.KEY`, `metadata.KEY`): a key of the metadata;
    - `time_zone`: of the row's time, where it is without one;
    - `ignore`: left out.

    Attributes:
        map: What columns of the file are, such as `{"Date(UTC)": "timestamp"}`. Two that are the
            timestamp are joined by a space.
        set: Values of all rows by column, such as `{"exchange": "kraken"}`. `{base}` in one stands
            for what the file has as `base`; `{received_currency}` and `{sent_currency}` for what
            the side says.
        patterns: Columns that hold several values: regular expressions of whole cells, whose named
            groups say what the parts are: `{"Fee": r"(?P<fee>[\d.]+)(?P<fee_currency>.+)"}`.
        values: What texts of a column mean, such as `{"Type": {"Purchase": "buy"}}`.
        only: The rows to read, by texts of a column, such as `{"Type": ["Trade"]}`.
        skip: The rows to leave out, likewise.
        others: What becomes of columns that are not named: `"refuse"`, `"metadata"` keeps them
            under their own names in the metadata, `"ignore"` leaves them out.
        separator: Of a CSV file; None recognises comma, semicolon, tab and `|`.
        decimal: The decimal point of numbers.
        thousands: What stands between thousands, or "".
        encoding: Of a text file; None is UTF-8, or UTF-16 with a byte order mark.
        header_line: The number of the line of a CSV file that names the columns; None is the one
            that has most of the columns of this layout, or else the first one.
        skip_footer: How many rows at the end of a CSV file are left out.
        newest_first: Whether the newest row comes first, where the times of the rows do not say it.
        time_zone: Of times without one.
        date_format: How times are written, as for `strptime`, or several ways, of which the first
            that fits counts; or `"s"`, `"ms"`, `"us"`, `"ns"` since 1970; or `"excel"` for its
            serial numbers; None is ISO 8601.

    Raises:
        ValidationError: A value is invalid.
    """

    map: Mapping[str, str] = field(default_factory=dict)
    set: Mapping[str, str] = field(default_factory=dict)
    patterns: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    only: Mapping[str, Sequence[str]] = field(default_factory=dict)
    skip: Mapping[str, Sequence[str]] = field(default_factory=dict)
    others: Others = "refuse"
    separator: str | None = None
    decimal: str = "."
    thousands: str = ""
    encoding: str | None = None
    header_line: int | None = None
    skip_footer: int = 0
    newest_first: bool = False
    time_zone: str = "UTC"
    date_format: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        for name in ("map", "set", "patterns", "values", "only", "skip"):
            _check_table(name, getattr(self, name))
        if self.others not in get_args(Others):
            refuse("others", self.others, f"is not one of {', '.join(get_args(Others))}")
        if self.separator is not None and not _is_character(self.separator):
            refuse("separator", self.separator, "is not one character")
        if self.decimal not in (".", ","):
            refuse("decimal", self.decimal, "is not '.' or ','")
        if self.thousands != "" and not _is_character(self.thousands):
            refuse("thousands", self.thousands, "is not one character")
        if self.thousands.isdigit():
            refuse("thousands", self.thousands, "is a digit")
        if self.thousands == self.decimal:
            advice = "pass decimal=',' if the comma is it" if self.decimal == "." else "change one"
            refuse("thousands", self.thousands, f"is also the decimal point; {advice}")
        for name, least in (("header_line", 1), ("skip_footer", 0)):
            number = getattr(self, name)
            if number is not None and (type(number) is not int or number < least):
                refuse(name, number, f"is not a whole number from {least} on")
        if not isinstance(self.newest_first, bool):
            refuse("newest_first", self.newest_first, "is not true or false")
        self._check_encoding()
        self._check_times()

    def _check_encoding(self) -> None:
        try:
            if self.encoding is not None:
                "\n".encode(self.encoding)  # base64 is a codec, too, but not of text
        except (LookupError, TypeError, ValueError):
            refuse("encoding", self.encoding, "is not known; use one such as 'utf-8' or 'cp1252'")

    def _check_times(self) -> None:
        try:
            zone_of(self.time_zone)
        except Exception:  # also OSError and TypeError, by the text
            reason = "is not known; use a name such as 'Europe/Berlin'"
            refuse_time_zone("time_zone", self.time_zone, reason)
        if self.date_format is None or self.date_format in (*EPOCH_UNITS, "excel"):
            return
        formats = [self.date_format] if isinstance(self.date_format, str) else self.date_format
        is_list = isinstance(formats, Sequence) and len(formats) > 0
        if not is_list or not all(isinstance(each, str) and "%" in each for each in formats):
            refuse(
                "date_format",
                self.date_format,
                "is not a format such as '%d.%m.%Y %H:%M:%S', s, ms, us, ns or excel",
            )
        for each in formats:
            _check_format(each)

    def columns(self) -> Sequence[str]:
        """Return the names of columns that a file must have."""
        tables: tuple[Mapping[str, Any], ...] = (self.map, self.patterns, self.only, self.skip)
        return [name for table in tables for name in table]

    def matches(self, names: Sequence[str]) -> int:
        """Return how many of the columns that a file must have are among these."""
        by_plain = {plain_name(name): name for name in names}
        return sum(find_column(name, by_plain) is not None for name in self.columns())


def known_layouts() -> list[str]:
    """Return the names of the layouts that come with botmemory."""
    return sorted(file.stem for file in LAYOUTS.glob("*.toml"))


def load_layout(layout: str | os.PathLike[str]) -> Layout:
    """Return the layout of a TOML file, or of one that comes with botmemory by its name.

    Args:
        layout: The path of a file that ends in `.toml`, or a name such as `"kraken"`.

    Raises:
        ConfigError: There is no such layout, or it is no TOML.
        ValidationError: A value in it is invalid.
        StorageError: The file cannot be read.
    """
    if not isinstance(layout, (str, os.PathLike)):
        refuse("layout", layout, "is no Layout, no name of one and no path of a file")
    path = Path(layout)
    if path.suffix != ".toml":
        known = known_layouts()
        if str(layout) not in known:
            raise ConfigError(
                f"layout: {str(layout)!r} is neither a file that ends in .toml nor one of "
                f"{', '.join(known)}{suggestion(str(layout), [*known, *_layout_beside(path)])}"
            )
        path = LAYOUTS / f"{layout}.toml"
    with translate_errors(path, "cannot be read"), path.open("rb") as file:
        content = file.read()
    try:
        values: dict[str, Any] = tomllib.loads(content.decode("utf-8-sig"))
    except ValueError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    known = [each.name for each in fields(Layout)]
    for name in values:
        if name not in known:
            raise ConfigError(
                f"{path}: {name}: no such setting{suggestion(name, known)}; use {', '.join(known)}"
            )
    try:
        return Layout(**values)
    except ValidationError as error:
        raise ValidationError(f"{path}: {error}", field=error.field) from error


def _layout_beside(path: Path) -> list[str]:
    """Return the file that a path without its suffix, or with another one, is likely to mean."""
    file = path.with_suffix(".toml") if path.name else path
    try:
        return [str(file)] if file.is_file() else []
    except OSError:  # the name is too long
        return []


def plain_name(name: str) -> str:
    """Return the name of a column as names are compared."""
    return re.sub(r"[\s_\ufeff]+", "", ZONE_OF_NAME.sub("", name)).casefold()


def zone_of_name(name: str) -> str | None:
    """Return the time zone that the name of a column has, such as `Time(UTC+02:00)`, if any."""
    found = ZONE_OF_NAME.search(name)
    return found[1].upper() if found else None


def find_column(name: str, by_plain: Mapping[str, str]) -> str | None:
    """Return the column of a file that a layout calls `name`, which may be `A | B`."""
    plain = map(plain_name, (name, *name.split("|")))
    return next((by_plain[each] for each in plain if each in by_plain), None)


def zone_of(time_zone: str) -> tzinfo:
    """Return a time zone, by its name or as UTC+8."""
    if (offset := OFFSET.fullmatch(time_zone)) is None:
        return named_time_zone(time_zone)
    sign = -1 if offset[1] == "-" else 1
    return timezone(sign * timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0)))


def _check_format(date_format: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a format without a year, which is refused below
            datetime.strptime("", date_format)  # noqa: DTZ007
    except ValueError as error:
        # it should not match; since Python 3.15 a day without a year is refused, as it is below
        if not re.search("^time data|without a year", str(error)):
            refuse("date_format", date_format, f"is no format: {error}")
    if not re.search("%[YyGcx]", date_format):
        refuse("date_format", date_format, "has no year, such as %Y")


def _is_character(value: object) -> bool:
    return isinstance(value, str) and len(value) == 1


def _check_table(name: str, table: object) -> None:
    if not isinstance(table, Mapping):
        refuse(name, table, "is not a mapping of names of columns")
    for column, value in table.items():
        place = f"{name}[{column!r}]"
        if not isinstance(column, str) or not column.strip():
            refuse(name, column, "is not the name of a column")
        if name == "values":
            _check_texts(place, value)
        elif name in ("only", "skip"):
            if isinstance(value, str) or not isinstance(value, Sequence):
                refuse(place, value, "is not a list of texts")
            for text in value:
                if not isinstance(text, str):
                    refuse(place, text, "is not text")
        elif not isinstance(value, str):
            refuse(place, value, "is not text")
        elif name == "patterns":
            try:
                groups = re.compile(value).groupindex
            except re.error as error:
                refuse(place, value, f"is not a regular expression: {error}")
            if not groups:
                refuse(place, value, "has no named group such as (?P<quantity>[0-9.]+)")


def _check_texts(place: str, texts: object) -> None:
    if not isinstance(texts, Mapping):
        refuse(place, texts, "is not a mapping of texts")
    for text, meaning in texts.items():
        if not isinstance(text, str) or not isinstance(meaning, str):
            refuse(place, {text: meaning}, "is not text")
