"""The options that say how a file from elsewhere is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, get_args

import click

from ..interop.files import Layout, Others, load_layout
from ._options import Command


def layout_options(command: Command) -> Command:
    """Add the options of a layout to a command, which gets `layout`."""

    @wraps(command)
    def with_layout(*args: Any, layout: str | None, **options: Any) -> Any:
        base = Layout() if layout is None else load_layout(layout)
        changes: dict[str, Any] = {}
        for field in dataclasses.fields(Layout):
            value = options.pop(field.name)
            if value and isinstance(value, dict):
                changes[field.name] = _merged(getattr(base, field.name), value)
            elif value is not None and not isinstance(value, dict):
                changes[field.name] = value
        return command(*args, layout=dataclasses.replace(base, **changes), **options)

    decorated: Command = with_layout
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def _merged(base: Any, changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in changes.items():
        if isinstance(value, dict):
            value = {**merged.get(name, {}), **value}
        elif isinstance(value, list):
            value = [*merged.get(name, []), *value]
        merged[name] = value
    return merged


def _pairs(
    context: click.Context, parameter: click.Parameter, texts: Sequence[str]
) -> dict[str, Any]:
    """Return `NAME=VALUE` options as a mapping."""
    pairs: dict[str, Any] = {}
    for text in texts:
        # a name of a column may have "=" in it, a name of a table's column has none
        name, equals, value = (
            text.rpartition("=") if parameter.name == "map" else text.partition("=")
        )
        if not (equals and name.strip()):
            raise click.BadParameter(f"{text!r} is not of the form {parameter.metavar}")
        if parameter.name in ("only", "skip"):
            pairs.setdefault(name, []).append(value)
        elif parameter.name == "values":
            column, colon, meant = name.partition(":")
            if not colon:
                raise click.BadParameter(f"{text!r} is not of the form {parameter.metavar}")
            pairs.setdefault(column, {})[meant] = value
        else:
            pairs[name] = value
    return pairs


def _pair_option(name: str, metavar: str, text: str) -> Callable[[Command], Command]:
    return click.option(f"--{name}", multiple=True, metavar=metavar, callback=_pairs, help=text)


def _character(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    return {"tab": "\t", "\\t": "\t", "space": " ", "none": ""}.get(text, text) if text else text


_OPTIONS: tuple[Callable[[Command], Command], ...] = (
    click.option(
        "--layout",
        metavar="NAME",
        help="How the file is read: a TOML file, or the name of a known export, such as kraken.",
    ),
    _pair_option("map", "COLUMN=NAME", "What a column of the file is: 'Date(UTC)=timestamp'."),
    _pair_option("set", "NAME=VALUE", "A value of all rows: exchange=kraken."),
    _pair_option(
        "patterns",
        "COLUMN=REGEX",
        "Split a cell by named groups: 'Fee=(?P<fee>[0-9.]+)(?P<fee_currency>.+)'.",
    ),
    _pair_option("values", "COLUMN:TEXT=VALUE", "What a text means: 'Type:Purchase=buy'."),
    _pair_option("only", "COLUMN=TEXT", "Read only rows with this text: Type=Trade."),
    _pair_option("skip", "COLUMN=TEXT", "Leave out rows with this text: Pair=Total."),
    click.option(
        "--others",
        type=click.Choice(get_args(Others)),
        help="What to do with other columns; they are refused by default.",
    ),
    click.option(
        "--separator", metavar="CHARACTER", callback=_character, help="Of CSV; or tab. Recognised."
    ),
    click.option("--decimal", metavar="CHARACTER", help="The decimal point of numbers."),
    click.option(
        "--thousands",
        metavar="CHARACTER",
        callback=_character,
        help="What stands between thousands; or space.",
    ),
    click.option("--encoding", metavar="NAME", help="Of the file, such as cp1252 [UTF-8]."),
    click.option(
        "--header-line", type=int, metavar="N", help="The line that names the columns. Recognised."
    ),
    click.option("--skip-footer", type=int, metavar="N", help="Leave out the last N rows."),
    click.option(
        "--newest-first/--oldest-first",
        default=None,
        help="The order of rows, where their times do not say it.",
    ),
    click.option("--time-zone", metavar="ZONE", help="Of times without one: Europe/Berlin [UTC]."),
    click.option(
        "--date-format",
        metavar="FORMAT",
        help="How times are written: '%d.%m.%Y %H:%M', s, ms, us, ns or excel [ISO 8601].",
    ),
)
