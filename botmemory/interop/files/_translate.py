"""Rows of a file from elsewhere as rows of a table, by a layout."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from difflib import get_close_matches
from enum import Enum
from typing import Any, NamedTuple

from ..._arguments import suggestion
from ..._values import refuse
from ...columns import Column
from ...errors import ValidationError, show
from ...fields import MetadataField
from ...models import MODELS, BaseModel, Trade
from .._columns import columns_of
from .._ids import recorded_name, text_of_id
from ._amounts import NUMBERS, TEXTS, complete
from ._cells import is_missing, is_nothing, to_number, to_time
from ._layout import Layout, find_column, known_layouts, load_layout, plain_name, zone_of_name

Row = dict[str, Any]
Translate = Callable[[Row], Row | None]

BLANK = string.whitespace + "\u00a0\ufeff"  # OKX writes a byte order mark before each row
# words in names of columns, and what such a column may be; the first that fits
MEANINGS = (
    ("", ("orderid", "ordertxid", "ordertype", "orderno", "status", "balance")),
    ("fee_currency", ("feecur", "feecoin", "feeasset", "commissionasset", "feeunit")),
    ("fee", ("fee", "commission")),
    ("pnl", ("pnl", "profit", "realized", "realised")),
    ("exchange_trade_id", ("tradeid", "txid", "fillid", "execid", "executionid", "transactionid")),
    ("timestamp", ("date", "time", "created", "executedat")),
    ("side", ("side", "type", "direction", "action", "operation", "buysell")),
    ("price", ("price", "rate")),
    ("symbol", ("pair", "symbol", "market", "instrument", "product", "contract", "ticker")),
    ("cost", ("total", "cost", "value", "funds", "turnover", "notional", "proceeds")),
    ("quantity", ("quantity", "qty", "amount", "size", "volume", "vol", "executed", "filled")),
    ("cost", ("amount", "volume")),
    ("exchange", ("exchange", "platform", "venue")),
    ("strategy", ("strategy", "bot")),
)  # fmt: skip


class _Cell(NamedTuple):
    """What one column of a file is: a target, the groups of a pattern, or metadata."""

    name: str
    target: str  # "" if the pattern says it
    pattern: re.Pattern[str] | None
    meanings: Mapping[str, str]


class _Plan(NamedTuple):
    """What the columns of a file are."""

    cells: list[_Cell]
    only: list[tuple[str, bool, frozenset[str]]]  # column, whether its texts are wanted, texts


def names_of(header: Sequence[str]) -> list[str]:
    """Return names of columns that are unique: the second `Cur.` is `Cur. (2)`."""
    names: list[str] = []
    for name in header:
        unique, number = name, 2
        while unique in names:
            unique, number = f"{name} ({number})", number + 1
        names.append(unique)
    return names


class Translator:
    """Translates the rows of one file.

    Args:
        model: The model of the rows.
        layout: How the file is read.
        place: The file, for messages.
        map_name: What the caller knows `map` of the layout by, for messages.
    """

    def __init__(
        self, model: type[BaseModel], layout: Layout, place: str, map_name: str = "map"
    ) -> None:
        self.model, self.layout, self.place = model, layout, place
        self.map_name = map_name
        self.columns = columns_of(model)
        self._exchanges: dict[str, str] = {}  # as they are recorded, by their names in lower case
        self.has_parts = model is Trade
        self.metadata = next(
            (f.name for f in model._meta.sorted_fields if isinstance(f, MetadataField)), None
        )
        self.templates = {name: _template(text) for name, text in layout.set.items()}
        self.parts_of_templates = {part for text in self.templates.values() for part in text[1::2]}
        self.required = [
            field.column_name
            for field in model._meta.sorted_fields
            if not (field.null or field.primary_key) and field.default is None
        ]
        self._check_layout()
        self.is_own = layout == Layout()
        self._plans: dict[tuple[str, ...], _Plan | None] = {}
        self.left_out = 0
        self.signs_of_fees: set[bool] = set()  # whether they are above 0
        self.warning = ""

    def check_header(self, names: Sequence[str], line: int | None, text: str) -> None:
        """Refuse a header with a column that is not known; a data frame has no line of it.

        Raises:
            ValidationError: The message names all of them, and what they may be.
        """
        try:
            self._plan(tuple(names))
        except ValidationError as error:
            shown = text if len(text) <= 300 else f"{text[:300]}..."
            place = self.place if line is None else f"{self.place}, line {line}"
            raise ValidationError(f"{place}: {error}; the header is {shown}") from error

    def translate(self, row: Row) -> Row | None:
        """Return a row by the columns of the table; None if the layout leaves it out.

        `warning` is what is doubtful about the row, or "".

        Raises:
            ValidationError: A column is not known, or a cell is not what it should be.
        """
        self.warning = ""
        names = tuple(row)
        if names not in self._plans:
            self._plans[names] = self._plan(names)
        plan = self._plans[names]
        if plan is None:  # the file has the names of the table
            return self._own(row)
        for name, wanted, texts in plan.only:
            if (_text(row[name]).casefold() in texts) is not wanted:
                self.left_out += 1
                return None
        return self._translated(plan, row)

    # --- what the columns are -------------------------------------------------------------------

    def _plan(self, names: tuple[str, ...]) -> _Plan | None:
        layout = self.layout
        has_ids = "id" in names or "id" not in self.columns or self.model not in MODELS
        if self.is_own and has_ids and all(name in self.columns for name in names):
            return None
        by_plain = {plain_name(name): name for name in reversed(names)}
        own = {plain_name(name): name for name in (*self.columns, *self._parts())}
        missing: dict[str, list[str]] = {}  # by the setting that names them

        def of_file(setting: str, table: Mapping[str, Any]) -> dict[str, Any]:
            found = {}
            for name, value in table.items():
                if (column := find_column(name, by_plain)) is not None:
                    found[column] = value
                else:
                    missing.setdefault(setting, []).append(name)
            return found

        targets = of_file(self.map_name, layout.map)
        patterns = of_file("patterns", layout.patterns)
        only = [
            (name, wanted, frozenset(text.strip().casefold() for text in texts))
            for setting, table, wanted in (
                ("only", layout.only, True),
                ("skip", layout.skip, False),
            )
            for name, texts in of_file(setting, table).items()
        ]
        named_parts = {*own, *map(plain_name, self._named_parts())}
        of_file("values", {n: 0 for n in layout.values if plain_name(n) not in named_parts})
        if missing:
            raise ValidationError(_missing(missing, names))
        named = {name for name, _, _ in only}
        cells, unknown = [], []
        for name in names:
            target = targets.get(name, own.get(plain_name(name), ""))
            pattern = patterns.get(name)
            if not (target or pattern):
                if layout.others == "refuse" and name not in named:
                    unknown.append(name)
                is_kept = layout.others == "metadata" and self.metadata
                target = f"{self.metadata}.{name}" if is_kept else "ignore"
            compiled = None if pattern is None else re.compile(pattern, re.DOTALL)
            if compiled is not None and name not in targets:
                target = ""
            cells.append(_Cell(name, target, compiled, self._meanings(name, target)))
        if unknown:
            raise ValidationError(self._unknown(unknown, names))
        return _Plan(cells, only)

    def _parts(self) -> tuple[str, ...]:
        return (*NUMBERS, *TEXTS) if self.has_parts else ()

    def _named_parts(self) -> set[str]:
        """Return what the layout says that columns and parts of cells are."""
        groups = (re.compile(pattern).groupindex for pattern in self.layout.patterns.values())
        return {*self.layout.map.values(), *(name for names in groups for name in names)}

    def _check_layout(self) -> None:
        """Refuse what the table has not, whatever the file has."""
        for name, text in self.layout.set.items():
            self._check_target("set", name)
            known = [*self.columns, *self._parts(), *self._named_parts()]
            for part in self.templates[name][1::2]:
                if part not in known:
                    problem = f"has {{{part}}}, which nothing in the layout names"
                    refuse(f"set[{name!r}]", text, f"{problem}{suggestion(part, known)}")
        for column, name in self.layout.map.items():
            self._check_target(f"{self.map_name}[{column!r}]", name)
        for column, pattern in self.layout.patterns.items():
            for group in re.compile(pattern).groupindex:
                self._check_target(f"patterns[{column!r}]", group)

    def _check_target(self, place: str, target: str) -> None:
        known = [*self.columns, *self._parts(), "ignore"]
        is_key = self.metadata is not None and target.startswith(f"{self.metadata}.")
        if target not in known and target not in self.parts_of_templates and not is_key:
            problem = f"is no column of a {self.model.__name__}{suggestion(target, known)}"
            refuse(place, target, f"{problem}; use one of {', '.join(known)}")

    def _meanings(self, name: str, target: str) -> dict[str, str]:
        """Return what texts of a column mean, by the texts without case."""
        return {
            text.strip().casefold(): meaning
            for column, texts in self.layout.values.items()
            if plain_name(column) in (plain_name(name), target)
            for text, meaning in texts.items()
        }

    def _unknown(self, unknown: list[str], names: Sequence[str]) -> str:
        """Return the message about columns that are not known."""
        taken = {plain_name(name) for name in names} | {*self.layout.map.values(), *self.templates}
        meanings = {}
        for name in unknown:
            meanings[name] = self._meaning(name, taken)
            taken.add(meanings[name])
        likely = {name: meaning for name, meaning in meanings.items() if meaning}
        columns = ""
        if not (likely or self.layout.map):
            columns = f" (of {', '.join((*self.columns, *self._parts()))})"
        needed = [name for name in ("timestamp", "symbol", "price") if name in self.columns]
        first = next((name for name in needed if name not in taken), "ignore")
        noun = "column" if len(unknown) == 1 else "columns"
        rest = "'ignore'" if self.metadata is None else "'metadata' or 'ignore'"
        return (
            f"a {self.model.__name__} has no {noun} {', '.join(map(show, unknown))}; "
            f"{_known_layout(names)}say what each of them is{columns}, such as "
            f"{self.map_name}={likely or {unknown[0]: first}}, or what to do with those that are "
            f"not named, by others={rest}"
        )

    def _meaning(self, name: str, taken: set[str]) -> str:
        """Return what a column is likely to be, or ""."""
        if close := get_close_matches(name.lower(), list(self.columns), 1, 0.85):
            return close[0]
        plain = re.sub(r"\W", "", plain_name(name))
        for meaning, words in MEANINGS if self.model is Trade else ():
            if meaning not in taken and any(word in plain for word in words):
                return meaning
        return ""

    # --- rows -----------------------------------------------------------------------------------

    def _own(self, row: Row) -> Row:
        if row.get("timestamp", 0) is None and self.columns["timestamp"].kind.name == "timestamp":
            raise ValidationError(NO_TIME, field="timestamp")
        return row

    def _translated(self, plan: _Plan, row: Row) -> Row:
        parts: Row = {}
        metadata: Row = {}
        for cell in plan.cells:
            value = row[cell.name]
            if isinstance(value, Enum):
                value = value.value
            if isinstance(value, str):
                value = value.strip(BLANK) or None
            if cell.pattern is not None and not is_nothing(value):
                found = cell.pattern.fullmatch(_text(value))
                if found is None:
                    refuse(cell.name, value, f"does not fit the pattern {cell.pattern.pattern}")
                for group, text in found.groupdict().items():
                    self._add(parts, metadata, cell, group, text)
            if cell.target:
                self._add(parts, metadata, cell, cell.target, value)
        self._meanings_of_parts(parts)
        return self._finish(parts, metadata)

    def _add(self, parts: Row, metadata: Row, cell: _Cell, target: str, value: Any) -> None:
        if cell.meanings:
            value = cell.meanings.get(str(value).casefold(), value)
        if target == "ignore":
            return
        if target not in self.columns and target.startswith(f"{self.metadata}."):
            if not is_missing(value):
                is_time = isinstance(value, (date, time, timedelta))
                metadata[target.partition(".")[2]] = str(value) if is_time else value
            return
        existing = parts.get(target)
        if target == "timestamp" and target in parts:  # a column of dates and one of times
            is_whole = not (is_nothing(existing) or is_nothing(value))
            parts[target] = f"{existing} {value}" if is_whole else None
        elif existing is not None and not is_nothing(value) and existing != value:
            raise ValidationError(
                f"{target}: {show(existing)} and, in {cell.name!r}, {show(value)}; map one of the "
                "columns to 'ignore'",
                field=target,
            )
        elif existing is None or not is_nothing(value):
            parts[target] = value
        if target == "timestamp" and (zone := zone_of_name(cell.name)) is not None:
            parts["time_zone"] = zone

    def _meanings_of_parts(self, parts: Row) -> None:
        for column, texts in self.layout.values.items():
            value = parts.get(column)
            if isinstance(value, str):
                plain = {text.casefold(): meaning for text, meaning in texts.items()}
                parts[column] = plain.get(value.casefold(), value)

    def _finish(self, parts: Row, metadata: Row) -> Row:
        """Return the columns of the table, from what the cells say."""
        number = {
            name: to_number(name, parts[name], self.layout)
            for name in parts
            if name in NUMBERS or self._is_number(name)
        }
        if self.has_parts:
            if fee := number.get("fee"):
                self.signs_of_fees.add(fee > 0)
            complete(parts, number, metadata, self.layout, self.map_name)
        for name, template in self.templates.items():
            if (value := _filled(template, parts)) is not None:
                if name in NUMBERS or self._is_number(name):
                    number[name] = to_number(name, value, Layout())
                elif name in self.columns or name in TEXTS:
                    parts[name] = value
                else:
                    metadata[name.partition(".")[2]] = value
        base, quote = parts.get("base"), parts.get("quote")
        if self.has_parts and is_nothing(parts.get("symbol")) and base and quote:
            parts["symbol"] = f"{base}/{quote}".upper()
        row: Row = {}
        for name in self.columns:
            if name in number:
                row[name] = self._plain(name, number[name])
            elif name in parts:
                row[name] = self._value(name, parts[name], parts.get("time_zone"))
        for name in self.required:
            if row.get(name) is None and parts.get(name) is not None:  # NaN, or a text such as "-"
                refuse(name, parts[name], "is not allowed; pass a value")
        if metadata and self.metadata:
            row[self.metadata] = self._with(row.get(self.metadata), metadata)
        return row

    def _with(self, own: Any, metadata: Row) -> Any:
        if own is not None and not isinstance(own, dict):
            raise ValidationError(
                f"{self.metadata}: {show(own)} is no object, to which other columns could be added",
                field=self.metadata,
            )
        return (own or {}) | metadata

    def _is_number(self, name: str) -> bool:
        column = self.columns.get(name)
        return column is not None and column.kind.name in ("number", "decimal")

    def _plain(self, name: str, value: Decimal | None) -> Any:
        if value is None or self.columns[name].kind.name == "decimal":
            return value
        return float(value)

    def _value(self, name: str, value: Any, time_zone: str | None) -> Any:
        column: Column = self.columns[name]
        if column.kind.name == "timestamp":
            timestamp, self.warning = to_time(value, self.layout, time_zone)
            if timestamp is None and name == "timestamp":
                raise ValidationError(NO_TIME, field=name)
            return timestamp
        if name in ("exchange_trade_id", "exchange_flow_id"):
            text = re.sub(r"^(\d+)\.0+$", r"\1", value) if isinstance(value, str) else value
            if isinstance(text, str) and re.fullmatch(r"\d(\.\d+)?E\+\d+", text):
                refuse(name, value, "was shortened by a spreadsheet; export the file again")
            return None if is_missing(text) else text_of_id(name, text) or None
        if name == "side" and (text := _text(value)) and text.lower() not in ("buy", "sell"):
            refuse(name, value, f"is no side; say which, as values={{'side': {{{text!r}: 'buy'}}}}")
        if is_missing(value) or (is_nothing(value) and column.kind.name != "text"):
            return None
        if name == "exchange" and isinstance(value, str):
            if (lower := value.lower()) not in self._exchanges:
                self._exchanges[lower] = recorded_name(value)
            return self._exchanges[lower]
        if column.kind.name == "text" and not isinstance(value, str):
            if isinstance(value, bytes):
                refuse(name, value, "is not text; pass value.decode(), or value.hex()")
            return str(value)
        return value


def _missing(missing: Mapping[str, Sequence[str]], names: Sequence[str]) -> str:
    """Return the message about columns that settings of the layout name and the file has not."""
    problems = []
    for setting, columns in missing.items():
        each = ", ".join(f"{name!r}{suggestion(name, list(names))}" for name in columns)
        problems.append(f"{each}, which {setting} names")
    return (
        f"there is no column {', and '.join(problems)}; the columns are "
        f"{', '.join(map(repr, names))}"
    )


def _known_layout(names: Sequence[str]) -> str:
    """Return advice to use a layout that comes with botmemory and names all of these columns."""
    for name in known_layouts():
        layout = load_layout(name)
        if layout.matches(names) == len(layout.columns()):
            return f"it seems to be the export that layout={name!r} reads; or "
    return ""


NO_TIME = "timestamp: empty; an import takes no row without its time: add it, or leave the row out"


def _text(cell: object) -> str:
    return "" if is_missing(cell) else str(cell).strip(BLANK)


def _template(text: str) -> list[str]:
    """Return the texts and the names of parts of `{base}/{quote}`, in turn."""
    return re.split(r"\{(\w+)\}", text)


def _filled(template: Iterable[str], parts: Row) -> str | None:
    """Return a template with the parts of a row; None if the row has not all of them."""
    texts = []
    for number, text in enumerate(template):
        value = text if number % 2 == 0 else parts.get(text)
        if number % 2 and is_nothing(value):
            return None
        texts.append(str(value))
    return "".join(texts)
