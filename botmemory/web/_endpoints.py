"""The JSON API: one table of endpoints, from which routes, checks and the schema are made."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from itertools import islice
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import peewee

from .._version import __version__
from ..analysis import performance
from ..analysis.results import Source
from ..analysis.round_trips import RoundTrip, round_trips
from ..analysis.selection import quotes_of
from ..backends.peewee_internals import values_of
from ..errors import ValidationError
from ..models import CASH_FLOW_KINDS, BaseModel, CashFlow, OrderSide, Signal, Trade
from ..queries import read
from ..repositories import positions
from ..symbols import quote_of

Json = dict[str, Any]

LARGEST_LIMIT = 1000
TEXT: Json = {"type": "string"}
TIME: Json = {"type": "string", "format": "date-time"}


@dataclass(frozen=True)
class Parameter:
    """A parameter of the query: what it is called in Python, and its schema."""

    argument: str
    schema: Json
    description: str


PARAMETERS = {
    "symbol": Parameter("symbol", TEXT, "Only this symbol."),
    "side": Parameter("side", {"enum": [side.value for side in OrderSide]}, "Only this side."),
    "value": Parameter("signal_value", {"type": "integer", "enum": [1, -1, 0]}, "Of this value."),
    "kind": Parameter("kind", {"enum": list(CASH_FLOW_KINDS)}, "Only this kind."),
    "currency": Parameter("currency", TEXT, "Only this currency."),
    "strategy": Parameter("strategy", TEXT, "Only this strategy; empty for rows without one."),
    "exchange": Parameter("exchange", TEXT, "Only this exchange; empty for rows without one."),
    "quote": Parameter("quote", TEXT, "Only symbols with this quote currency."),
    "source": Parameter("source", {"enum": list(get_args(Source))}, "Where the PnL comes from."),
    "since": Parameter("start_date", TEXT, "From this date or time (ISO 8601) on; UTC."),
    "until": Parameter("end_date", TEXT, "Up to and including this date or time; UTC."),
    "limit": Parameter(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": LARGEST_LIMIT, "default": 100},
        "The largest number of rows.",
    ),
    "cursor": Parameter("cursor", TEXT, "The `next` of the answer before: the rows after those."),
}


@dataclass(frozen=True)
class Endpoint:
    """One address of the API.

    Attributes:
        name: The last part of its path.
        summary: What it returns.
        parameters: The names of its parameters.
        row: What a row is: a model or a dataclass.
        read: Returns the rows, and the cursor of the next ones or None.
    """

    name: str
    summary: str
    parameters: tuple[str, ...]
    row: type[Any]
    read: Callable[..., tuple[list[Any], str | None]]


def _rows_of(model: type[BaseModel]) -> Callable[..., tuple[list[Any], str | None]]:
    def read_rows(limit: int, cursor: str | None = None, **filters: Any) -> Any:
        values = read.filters(model, **filters)
        where = [] if cursor is None else [_after(model, cursor)]
        rows = read.fetch(read.select_where(model, values, *where).limit(limit + 1), values)
        following = None
        if len(rows) > limit:
            last: Any = rows[limit - 1]
            following = f"{last.timestamp.isoformat()}_{last.id}"
        return rows[:limit], following

    return read_rows


def _after(model: type[BaseModel], cursor: str) -> Any:
    """Return the condition for the rows that are older than that of a cursor."""
    fields = model._meta.fields
    timestamp, _, key = cursor.partition("_")
    try:
        values: list[Any] = [
            datetime.fromisoformat(timestamp).astimezone(UTC),
            uuid.UUID(key) if model is Trade else int(key),
        ]
    except (ValueError, OverflowError):
        raise ValidationError("cursor: is not the `next` of an answer", field="cursor") from None
    columns: list[Any] = [fields["timestamp"], fields["id"]]
    earlier = columns[0] < values[0]
    return earlier | ((columns[0] == values[0]) & (columns[1] < values[1]))


def open_positions(
    symbol: str | None,
    quote: str | None,
    strategy: str | None,
    exchange: str | None,
    rates: Mapping[str, float] | None = None,
) -> list[positions.Position]:
    """Return the open positions that the filters match."""
    return [
        each
        for each in positions.get_all(strategy, exchange=exchange, rates=rates)
        if symbol in (None, each.symbol) and quote in (None, quote_of(each.symbol) or "")
    ]


def _positions(
    symbol: str | None = None,
    quote: str | None = None,
    strategy: str | None = None,
    exchange: str | None = None,
) -> tuple[list[positions.Position], None]:
    return open_positions(symbol, quote, strategy, exchange), None


def _round_trips(limit: int, cursor: str | None = None, **filters: Any) -> Any:
    if cursor is not None and not re.fullmatch(r"\d{1,15}", cursor):
        raise ValidationError("cursor: is not the `next` of an answer", field="cursor")
    first = int(cursor or 0)
    rows = list(islice(round_trips(**filters), first, first + limit + 1))
    return rows[:limit], str(first + limit) if len(rows) > limit else None


def _results(quote: str | None = None, source: Source | None = None, **filters: Any) -> Any:
    symbols = read.distinct(Trade, "symbol", read.filters(Trade, **filters))
    wanted = [each for each in quotes_of(symbols) if quote in (None, each)]
    if quote is None and len([each for each in symbols if not quote_of(each)]) > 1:
        wanted = [each for each in wanted if each]  # they are not added up
    return [performance.summarize(**filters, quote=each, source=source) for each in wanted], None


PAGE = ("limit", "cursor")
OF_ROWS = ("since", "until", *PAGE)
ENDPOINTS = (
    Endpoint(
        "trades",
        "Trades, newest first.",
        ("symbol", "side", "strategy", "exchange", *OF_ROWS),
        Trade,
        _rows_of(Trade),
    ),
    Endpoint(
        "signals",
        "Signals, newest first.",
        ("symbol", "value", "strategy", *OF_ROWS),
        Signal,
        _rows_of(Signal),
    ),
    Endpoint(
        "cash-flows",
        "Cash flows, newest first.",
        ("kind", "currency", "symbol", "strategy", "exchange", *OF_ROWS),
        CashFlow,
        _rows_of(CashFlow),
    ),
    Endpoint(
        "positions",
        "Open positions, one for each symbol and exchange.",
        ("symbol", "strategy", "exchange", "quote"),
        positions.Position,
        _positions,
    ),
    Endpoint(
        "round-trips",
        "Closed round trips, in the order in which they were closed.",
        ("symbol", "strategy", "exchange", "quote", *OF_ROWS),
        RoundTrip,
        _round_trips,
    ),
    Endpoint(
        "results",
        "The result of the closed trades of each currency.",
        ("symbol", "strategy", "exchange", "quote", "source", "since", "until"),
        performance.Performance,
        _results,
    ),
)


def arguments_of(endpoint: Endpoint, query: list[tuple[str, str]]) -> dict[str, Any]:
    """Return the arguments of a request; refuse what the endpoint does not have."""
    arguments: dict[str, Any] = {}
    for name, text in query:
        if name not in endpoint.parameters:
            known = ", ".join(endpoint.parameters)
            raise ValidationError(f"{name}: there is no such parameter, only {known}", field=name)
        parameter = PARAMETERS[name]
        if parameter.argument in arguments:
            raise ValidationError(f"{name}: is given twice", field=name)
        arguments[parameter.argument] = _parsed(name, parameter.schema, text)
    if "limit" in endpoint.parameters:
        arguments.setdefault("limit", PARAMETERS["limit"].schema["default"])
    return arguments


def _parsed(name: str, schema: Json, text: str) -> Any:
    if name in ("since", "until"):
        return _timestamp(name, text)
    value: Any = text
    if schema.get("type") == "integer":
        if not re.fullmatch(r"-?\d{1,9}", text):
            raise ValidationError(f"{name}: {text!r} is not a whole number", field=name)
        value = int(text)
        if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
            bounds = f"{schema['minimum']} to {schema['maximum']}"
            raise ValidationError(f"{name}: {value} is not from {bounds}", field=name)
    if "enum" in schema and value not in schema["enum"]:
        words = ", ".join(map(str, schema["enum"]))
        raise ValidationError(f"{name}: {text!r} is none of {words}", field=name)
    return value


def _timestamp(name: str, text: str) -> datetime:
    """Return a UTC timestamp; a date alone is its first instant, or its last for `until`."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            instant = time.max if name == "until" else time.min
            return datetime.combine(date.fromisoformat(text), instant, UTC)
        # a + that was not encoded is a space
        timestamp = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        return (timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValidationError(
            f"{name}: {text!r} is not a date such as 2024-01-31 or 2024-01-31T09:30Z", field=name
        ) from None


def as_json(endpoint: Endpoint, rows: list[Any], following: str | None) -> Json:
    """Return an answer as what JSON has."""
    return {"rows": [_plain(_fields(row)) for row in rows], "next": following}


def _fields(row: Any) -> Json:
    if isinstance(row, BaseModel):
        values = values_of(row)
        return {f.column_name: values[f.name] for f in row._meta.sorted_fields}
    return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}


def _plain(value: Any) -> Any:
    """Convert a value: times in ISO 8601, durations in seconds, what is not finite to null."""
    if isinstance(value, Mapping):
        return {"" if key is None else str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, uuid.UUID) else value


# --- the schema -----------------------------------------------------------------------------------


def openapi(*, needs_token: bool) -> Json:
    """Return the OpenAPI 3.1 description of the API."""
    error = {"type": "object", "required": ["error"], "properties": {"error": TEXT}}
    errors = {
        "400": "A parameter is wrong; the message names it.",
        "503": "The database cannot be read now.",
    }
    failures = {
        status: {"description": text, "content": {"application/json": {"schema": error}}}
        for status, text in errors.items()
    }
    description: Json = {
        "openapi": "3.1.0",
        "info": {"title": "botmemory", "version": __version__},
        "paths": {
            f"/api/{endpoint.name}": {
                "get": {
                    "operationId": endpoint.name,
                    "summary": endpoint.summary,
                    "parameters": [_parameter(name) for name in endpoint.parameters],
                    "responses": {
                        "200": {
                            "description": endpoint.summary,
                            "content": {"application/json": {"schema": answer_schema(endpoint)}},
                        },
                        **failures,
                    },
                }
            }
            for endpoint in ENDPOINTS
        },
    }
    if needs_token:
        description["components"] = {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}
        }
        description["security"] = [{"token": []}]
    return description


def _parameter(name: str) -> Json:
    parameter = PARAMETERS[name]
    described = {"description": parameter.description, "schema": parameter.schema}
    return {"name": name, "in": "query", **described}


def answer_schema(endpoint: Endpoint) -> Json:
    """Return the schema of an answer."""
    if issubclass(endpoint.row, BaseModel):
        fields: Any = endpoint.row._meta.sorted_fields
        properties = {field.column_name: _schema_of_field(field) for field in fields}
    else:
        types_of = get_type_hints(endpoint.row)
        names = [field.name for field in dataclasses.fields(endpoint.row)]
        properties = {name: _schema_of(types_of[name]) for name in names}
    row: Json = {
        "type": "object",
        "required": [*properties],
        "properties": properties,
        "additionalProperties": False,
    }
    following = {"type": ["string", "null"], "description": "The cursor of the next rows."}
    return {
        "type": "object",
        "required": ["rows", "next"],
        "properties": {"rows": {"type": "array", "items": row}, "next": following},
    }


def _schema_of_field(field: Any) -> Json:
    if isinstance(field, peewee.ForeignKeyField):
        schema: Json = {"type": "integer"}
    elif isinstance(field, peewee.DateTimeField):
        schema = TIME
    elif isinstance(field, peewee.UUIDField):
        schema = {"type": "string", "format": "uuid"}
    elif isinstance(field, (peewee.FloatField, peewee.DoubleField)):
        schema = {"type": "number"}
    elif isinstance(field, peewee.IntegerField):
        schema = {"type": "integer"}
    elif field.name in ("trade_metadata", "signal_metadata", "metadata"):
        return {"description": "Any JSON value."}
    else:
        schema = TEXT
    return {**schema, "type": [schema["type"], "null"]} if field.null else schema


PLAIN_TYPES: dict[Any, Json] = {
    str: TEXT,
    int: {"type": "integer"},
    float: {"type": "number"},
    datetime: TIME,
    timedelta: {"type": "number", "description": "seconds"},
    type(None): {"type": "null"},
}


def _schema_of(annotation: Any) -> Json:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema_of(each) for each in arguments]}
    if origin is Literal:
        return {"enum": [*arguments]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema_of(arguments[1])}
    if origin is tuple:
        return {"type": "array", "items": _schema_of(arguments[0])}
    return PLAIN_TYPES[annotation]
