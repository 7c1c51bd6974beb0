"""Options that several commands have: which database, which rows, which output format."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import partial, wraps
from pathlib import Path
from typing import Any, get_args

import click
from click.core import ParameterSource

from .._values import checked_time_zone
from ..analysis.performance import Source
from ..bootstrap import init_db
from ..config import Config
from ..database import close_db
from ..errors import BotMemoryError, ValidationError
from ..models import CASH_FLOW_KINDS, OrderSide
from ..report import Capital
from ._output import named_as_options

Command = Callable[..., Any]

UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
DAYS = {"today": timedelta(), "yesterday": timedelta(days=1)}
SIDES = [side.value for side in OrderSide]
NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")
# what the functions call an argument for which the command line has another option
ALSO_NAMED = {"dimensions": "dimension", "ends": "bins", "metadata": "key", "stop_key": "key"}
# what an error begins with: an argument, or one key of it such as `map['Price']`
ARGUMENT = re.compile(r"(\w+)(?:\[(['\"])(.*?)\2\])?: ")
PATH = click.Path(path_type=Path)
# text that a shell completes with the names of files
A_FILE, A_FOLDER = click.Path(), click.Path(file_okay=False)


@dataclasses.dataclass
class DatabaseOptions:
    """The options that choose a database, given before or after the name of the command."""

    db: str | None = None
    config: str | None = None
    migrations: str | None = None
    tz: tzinfo | None = None

    @property
    def zone(self) -> tzinfo:
        """The time zone of dates and of the times that are shown."""
        return self.tz or UTC

    def settings(self, **changes: Any) -> Config:
        options: dict[str, Any] = {"db_path": self.db, "migrations": self.migrations}
        values = {name: value for name, value in options.items() if value is not None} | changes
        return Config.from_file(self.config, **values) if self.config else Config.from_env(**values)

    @contextmanager
    def open(self, **changes: Any) -> Iterator[None]:
        """Open the database inside the block."""
        init_db(self.settings(**changes))
        try:
            yield
        finally:
            close_db()


class DatabaseCommand(click.Command):
    """A command that prints a `BotMemoryError` as one line on stderr and exits with 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BotMemoryError as error:
            message = _with_option(str(error), _names_on_command_line(ctx))
            click.echo(f"error: {named_as_options(message)}", err=True)
            sys.exit(2)


def _with_option(message: str, names: dict[str, str]) -> str:
    """Return a message that begins with an option or argument of the command line, if one does."""
    if (found := ARGUMENT.match(message)) and found[1] in names:
        key = f" {found[3]}" if found[3] else ""
        message = f"{names[found[1]]}{key}: {message[found.end() :]}"
    for name, option in names.items():
        message = message.replace(f"which {name} names", f"which {option} names")
        if name in ("header_line", "separator"):
            message = message.replace(f": {name}: ", f": {option}: ")
    if "start_date" in names:
        message = message.replace("is before start_date", f"is before {names['start_date']}")
    return message


def _names_on_command_line(context: click.Context) -> dict[str, str]:
    """Return what the command line calls the arguments that it has, by their names in Python."""
    names = {
        str(parameter.name): max(parameter.opts, key=len)
        if isinstance(parameter, click.Option)
        else str(parameter.name).upper()
        for parameter in context.command.params
        if context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
    }
    names |= {also: names[name] for name, also in ALSO_NAMED.items() if name in names}
    names["path"] = names.get("out") or names.get("file") or "path"
    if context.obj.db is not None:
        names["db_path"] = "--db"
    elif "target" in names:
        names["db_path"] = "SOURCE or TARGET"
    return names


def database_command(name: str) -> Callable[[Command], click.Command]:
    """Return a decorator for a command with `database_options`, which gets `DatabaseOptions`."""
    command = click.command(name, cls=DatabaseCommand)
    return lambda function: command(database_options(click.pass_obj(function)))


def database_options(command: Command) -> Command:
    """Add --db and the options of `settings_options` to a command."""
    text = "Path or URL of the database (BOTMEMORY_DB_PATH, trading_state.db)."
    option = _database_option("--db", metavar="TARGET", type=A_FILE, help=text)
    return option(settings_options(command))


def settings_options(command: Command) -> Command:
    """Add --config and --migrations to a command."""
    text = "Migrations of custom tables (BOTMEMORY_MIGRATIONS)."
    command = _database_option("--migrations", metavar="FOLDER", type=A_FOLDER, help=text)(command)
    text = "Read the settings from a TOML file."
    return _database_option("--config", metavar="FILE", type=A_FILE, help=text)(command)


def _store(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Keep the value of an option in the `DatabaseOptions` of the context."""
    if value is not None:
        setattr(context.ensure_object(DatabaseOptions), str(parameter.name), value)


_database_option = partial(click.option, expose_value=False, callback=_store)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def format_options(command: Command) -> Command:
    """Add --json and --csv to a command, which gets `output_format`: json, csv or table."""

    @wraps(command)
    def with_format(*args: Any, as_json: bool, as_csv: bool, **kwargs: Any) -> Any:
        if as_json and as_csv:
            raise click.UsageError("--json and --csv exclude each other")
        output_format = "json" if as_json else "csv" if as_csv else "table"
        return command(*args, output_format=output_format, **kwargs)

    with_csv = click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")(with_format)
    return json_option(with_csv)


def filter_options(*names: str) -> Callable[[Command], Command]:
    """Add some of these filters to a command, in the order in which its help names them."""
    a_date = partial(click.option, metavar="DATE", callback=_timestamp)
    options = {
        "symbol": click.option("--symbol", metavar="SYMBOL", help="Only this symbol."),
        "strategy": click.option(
            "--strategy", metavar="NAME", help="Only this strategy; '' for rows without one."
        ),
        "exchange": click.option(
            "--exchange", metavar="NAME", help="Only this exchange; '' for rows without one."
        ),
        "kind": click.option("--kind", type=click.Choice(CASH_FLOW_KINDS), help="Only this kind."),
        "currency": click.option("--currency", metavar="CURRENCY", help="Only this currency."),
        "side": click.option("--side", type=click.Choice(SIDES), help="Only this side."),
        "value": click.option(
            "--value",
            "signal_value",
            type=click.Choice(["1", "-1", "0"]),
            callback=lambda _context, _parameter, text: None if text is None else int(text),
            help="Only signals of this value.",
        ),
        "metadata": click.option(
            "--metadata",
            metavar="KEY[=VALUE]",
            callback=lambda _context, _parameter, text: None if text is None else _metadata(text),
            help="Only rows whose metadata has this key, or this value; a dot separates the keys "
            "of nested objects.",
        ),
        "since": a_date(
            "--since",
            "start_date",
            help="From this date or time on: 2024-01-31, today, yesterday, or 7d ago.",
        ),
        "until": a_date("--until", "end_date", help="Up to and including this date or time."),
        "before": a_date(
            "--before",
            "before",
            required=True,
            help="Before this date or time: 2024-01-31, or 90d ago.",
        ),
        "tz": click.option(
            "--tz",
            metavar="ZONE",
            is_eager=True,  # before the dates that are in it
            expose_value=False,
            callback=_store_zone,
            help="Time zone of the dates, and of the times that are shown: Europe/Berlin [UTC].",
        ),
        "prices": click.option(
            "--price",
            "prices",
            multiple=True,
            metavar="SYMBOL=PRICE",
            callback=lambda _context, _parameter, values: dict(map(_price, values)),
            help="The price of a symbol, for its unrealized PnL: BTC/USDT=42000.",
        ),
        "quote": click.option(
            "--quote", metavar="CURRENCY", help="Only symbols with this quote currency."
        ),
        "source": click.option(
            "--source",
            type=click.Choice(get_args(Source)),
            help="Where the PnL comes from: what is recorded with the trades, or their fills. "
            "Without it what is recorded, if any trade has a PnL.",
        ),
        "rates": click.option(
            "--rate",
            "rates",
            multiple=True,
            metavar="BNB=PRICE",
            callback=lambda _context, _parameter, values: dict(map(_rate, values)),
            help="The price of another currency, for fees in it.",
        ),
        "capital": click.option(
            "--capital",
            "capital",
            multiple=True,
            metavar="[USDT=]AMOUNT",
            callback=lambda _context, _parameter, texts: dict(map(_capital, texts)),
            help="The capital at the start, for returns in percent; or the word deposits, for "
            "those that are recorded. With several currencies one for each.",
        ),
        "limit": click.option(
            "--limit", type=click.IntRange(min=0), default=20, show_default=True, metavar="N"
        ),
    }

    def add(command: Command) -> Command:
        for name in reversed(names):
            command = options[name](command)
        return command

    return add


def _capital(text: str) -> tuple[str, float | None]:
    """Return a currency, "" if none is named, and its capital, None for the recorded deposits."""
    currency, _, number = text.rpartition("=")
    try:
        return currency, None if number == "deposits" else float(number)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither an amount nor 'deposits'") from None


def capital_of_report(capital: dict[str, float | None]) -> Capital | None:
    """Return what a report takes for --capital: that of all currencies, if none is named."""
    if list(capital) == [""]:
        return "deposits" if capital[""] is None else capital[""]
    return capital or None


def _rate(text: str) -> tuple[str, float]:
    return _named_number(text, "a currency and its price: BNB=600")


def _price(text: str) -> tuple[str, float]:
    return _named_number(text, "a symbol and its price: BTC/USDT=42000")


def _named_number(text: str, form: str) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    try:
        if name:
            return name, float(number)
    except ValueError:
        pass
    raise click.BadParameter(f"{text!r} is not {form}")


def _metadata(text: str) -> tuple[str, Any]:
    """Return a key and its value: a number, true or false, or else the text; None for any."""
    key, equals, value = text.partition("=")
    if not equals:
        return key, None
    if value in ("true", "false"):
        return key, value == "true"
    return key, json.loads(value) if NUMBER.fullmatch(value) else value.removeprefix(
        '"'
    ).removesuffix('"')


def _store_zone(context: click.Context, parameter: click.Parameter, name: str | None) -> None:
    if name is not None:
        try:
            context.ensure_object(DatabaseOptions).tz = checked_time_zone(name)
        except ValidationError as error:
            problem = str(error).removeprefix("tz: ").removesuffix(" or a tzinfo")
            raise click.BadParameter(problem) from None


def _timestamp(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
    """Return a UTC timestamp; a date alone is its first instant, or its last for --until."""
    if text is None:
        return None
    zone = context.ensure_object(DatabaseOptions).zone
    try:
        if ago := re.fullmatch(r"(\d+)([hdw])", text):
            return datetime.now(UTC) - int(ago[1]) * UNITS[ago[2]]
        if text in DAYS:
            day: date | None = (datetime.now(zone) - DAYS[text]).date()
        else:
            day = date.fromisoformat(text) if re.fullmatch(r"\d{4}-?\d\d-?\d\d", text) else None
        if day is not None:
            end = parameter.name == "end_date"
            timestamp = datetime.combine(day, time.max if end else time.min)
        else:
            timestamp = datetime.fromisoformat(text)
        return (timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is not a date such as 2024-01-31 or 2024-01-31T09:30, nor today or "
            "yesterday, nor a time ago such as 12h, 30d or 4w"
        ) from None
