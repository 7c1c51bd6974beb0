"""Options that commands share: which database, which rows, and how they are printed."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, time
from functools import wraps
from typing import Any

import click

from ..bootstrap import init_db
from ..config import Config
from ..database import close_db
from ..errors import BotMemoryError

__all__ = [
    "DatabaseOptions",
    "answer",
    "database_options",
    "filter_options",
    "form_options",
    "reading",
    "settings_options",
    "writing",
]

Command = Callable[..., Any]


@dataclasses.dataclass
class DatabaseOptions:
    """Which database the options name, before the command and after it."""

    db: str | None = None
    config: str | None = None
    migrations: str | None = None

    def settings(self, **changes: Any) -> Config:
        named = {"db_path": self.db, "migrations": self.migrations}
        given = {name: value for name, value in named.items() if value is not None} | changes
        return Config.from_file(self.config, **given) if self.config else Config.from_env(**given)


def database_options(command: Command) -> Command:
    """Let a command be told which database it is about."""
    text = "Path or URL of the database (BOTMEMORY_DB_PATH, trading_state.db)."
    return _kept("--db", "TARGET", text)(settings_options(command))


def settings_options(command: Command) -> Command:
    """Let a command be told everything about a database but where it is."""
    own = "Migrations of custom tables (BOTMEMORY_MIGRATIONS)."
    command = _kept("--migrations", "FOLDER", own)(command)
    return _kept("--config", "FILE", "Read the settings from a TOML file.")(command)


def _kept(name: str, metavar: str, text: str) -> Callable[[Command], Command]:
    """Return an option that is kept in the context."""

    def keep(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value is not None:
            setattr(context.ensure_object(DatabaseOptions), str(parameter.name), value)

    return click.option(name, metavar=metavar, help=text, expose_value=False, callback=keep)


def form_options(command: Command) -> Command:
    """Let a command print JSON or CSV; it is given `form`."""

    @wraps(command)
    def with_form(*args: Any, as_json: bool, as_csv: bool, **kwargs: Any) -> Any:
        if as_json and as_csv:
            raise click.UsageError("--json and --csv exclude each other")
        form = "json" if as_json else "csv" if as_csv else "table"
        return command(*args, form=form, **kwargs)

    with_csv = click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")(with_form)
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(with_csv)


def filter_options(*names: str) -> Callable[[Command], Command]:
    """Let a command be filters by some of symbol, strategy, time, currency and number."""
    options = {
        "symbol": click.option("--symbol", metavar="SYMBOL", help="Of one symbol alone."),
        "strategy": click.option("--strategy", metavar="NAME", help="Of one strategy alone."),
        "time": lambda command: click.option(
            "--since",
            "start_date",
            metavar="DATE",
            callback=_timestamp,
            help="From then on, in UTC.",
        )(
            click.option(
                "--until",
                "end_date",
                metavar="DATE",
                callback=_timestamp,
                help="Up to and with then.",
            )(command)
        ),
        "quote": click.option(
            "--quote", metavar="CURRENCY", help="Of the symbols in one currency alone."
        ),
        "limit": click.option(
            "--limit", type=click.IntRange(min=0), default=20, show_default=True, metavar="N"
        ),
    }

    def narrow(command: Command) -> Command:
        for name in reversed(names):
            command = options[name](command)
        return command

    return narrow


def _timestamp(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
    """Return the timestamp a text stands for; a day alone is its begin, or its end for --until."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a date such as 2024-01-31 or 2024-01-31T09:30"
        ) from None
    if re.fullmatch(r"\d{4}-?\d\d-?\d\d", text) and parameter.name == "end_date":
        found = datetime.combine(found, time.max)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@contextmanager
def reading(options: DatabaseOptions) -> Iterator[None]:
    """Open the database to read it alone: a bot that is running is never disturbed."""
    init_db(options.settings(read_only=True))
    try:
        yield
    finally:
        close_db()


@contextmanager
def writing(options: DatabaseOptions) -> Iterator[None]:
    """Open the database to record in it."""
    init_db(options.settings())
    try:
        yield
    finally:
        close_db()


def answer(command: Command) -> Command:
    """Say in one line what is wrong, and exit with 2."""

    @wraps(command)
    def answering(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except BotMemoryError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(2)

    return answering
