"""A layout, or `columns=` of a data frame, that does not fit: where, and what to do."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from botmemory import Trade
from botmemory.errors import StorageError, ValidationError
from botmemory.interop.files import Layout, import_file
from botmemory.interop.frames import import_trades
from botmemory.repositories import trades

pytestmark = pytest.mark.usefixtures("empty_database", "empty_folder")

FILLS = """timestamp,symbol,side,quantity,Price
2024-01-02 09:30:00,BTC/EUR,buy,0.5,42000.5
2024-01-03 17:05:10,BTC/EUR,sell,0.5,43100.0
"""
ROW: dict[str, Any] = {
    "timestamp": "2024-01-02",
    "symbol": "BTC/EUR",
    "side": "buy",
    "price": 1.5,
    "quantity": 2,
}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"map": {"Price": "prce"}}, "map['Price']: 'prce' is no column of a Trade (did you mean"),
        ({"map": {"Price": ""}}, "map['Price']: '' is no column of a Trade; use one of id, time"),
        ({"set": {"exchange_": "x"}}, "set: 'exchange_' is no column of a Trade (did you mean"),
        (
            {"patterns": {"Price": "(?P<prce>.*)"}},
            "patterns['Price']: 'prce' is no column of a Trade (did you mean 'price'?)",
        ),
        (
            {"map": {"Prce": "price"}},
            "line 1: there is no column 'Prce' (did you mean 'Price'?), which map names",
        ),
        (
            {"only": {"sid": ["buy"]}, "skip": {"symbl": ["x"]}},
            "there is no column 'sid' (did you mean 'side'?), which only names, and 'symbl' (did "
            "you mean 'symbol'?), which skip names",
        ),
        (
            {"values": {"sid": {"buy": "sell"}}},
            "there is no column 'sid' (did you mean 'side'?), which values names",
        ),
        (
            {"set": {"symbol": "{bse}/USD"}},
            "set['symbol']: '{bse}/USD' has {bse}, which nothing in the layout names (did you "
            "mean 'base'?)",
        ),
        ({"header_line": 9}, "fills.csv: header_line: 9 is beyond its last line, which is 3"),
        ({"separator": ";"}, "line 1: separator: ';' is not in the header, but ',' is; the header"),
        ({"date_format": "s"}, "'2024-01-02 09:30:00' is not a number of date_format='s'"),
        ({"date_format": "excel"}, "'2024-01-02 09:30:00' is not a number of date_format='excel'"),
    ],
)
def test_a_layout_that_does_not_fit(settings: dict[str, Any], expected: str) -> None:
    Path("fills.csv").write_text(FILLS)
    with pytest.raises(Exception, match=re.escape(expected)):
        import_file(Trade, "fills.csv", layout=Layout(**settings))
    assert trades.get_trade_count() == 0


def test_an_encoding_that_is_another_one() -> None:
    Path("fills.csv").write_text(FILLS.replace("BTC", "\N{POUND SIGN}"), encoding="utf-8")
    expected = "line 2: is not ASCII: ordinal not in range.*; pass another encoding, such as enc"
    with pytest.raises(StorageError, match=expected):
        import_file(Trade, "fills.csv", layout=Layout(encoding="ascii"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"encoding": "base64"}, "encoding: 'base64' is not known; use one such as 'utf-8'"),
        ({"encoding": "rot13"}, "encoding: 'rot13' is not known"),
        ({"date_format": "%Q"}, "date_format: '%Q' is no format: 'Q' is a bad directive"),
        ({"date_format": "%d %"}, "date_format: '%d %' is no format: stray %"),
        ({"date_format": "%H:%M"}, "date_format: '%H:%M' has no year, such as %Y"),
        ({"date_format": ["%Y", "%d.%m."]}, "date_format: '%d.%m.' has no year, such as %Y"),
        ({"thousands": "."}, "'.' is also the decimal point; pass decimal=',' if the comma is"),
        ({"thousands": "1"}, "thousands: '1' is a digit"),
    ],
)
def test_a_layout_that_no_file_fits(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(expected)) as caught:
        Layout(**settings)
    assert caught.value.field == next(iter(settings))


def test_values_may_name_a_column_of_the_table_that_the_file_calls_otherwise() -> None:
    Path("fills.csv").write_text(FILLS.replace("side", "Type").replace("buy", "Kauf"))
    layout = Layout(map={"type": "side"}, values={"side": {"Kauf": "buy"}})
    assert import_file(Trade, "fills.csv", layout=layout).created == 2


def test_a_template_may_have_what_the_file_or_the_layout_names() -> None:
    Path("fills.csv").write_text(FILLS)
    texts = {"exchange": "{venue}", "strategy": "{symbol}", "fee_currency": "{quote}"}
    layout = Layout(set=texts, patterns={"symbol": r"(?P<symbol>(?P<venue>\w+)/(?P<quote>\w+))"})
    assert import_file(Trade, "fills.csv", layout=layout).created == 2
    first = next(trades.iterate())
    assert (first.exchange, first.strategy, first.fee_currency) == ("BTC", "BTC/EUR", "EUR")


@pytest.mark.parametrize(
    ("changes", "columns", "expected"),
    [
        ({"Foo": 1}, {}, "such as columns={'Foo': 'ignore'}, or what to do with those"),
        ({"Foo": 1}, {"Foo": "fe"}, "columns['Foo']: 'fe' is no column of a Trade"),
        ({}, {"Fe": "fee"}, "there is no column 'Fe', which columns names"),
        ({}, {"price": 3}, "columns['price']: 3 is not text"),
        ({}, {"": "price"}, "columns: '' is not the name of a column"),
        ({"quantity": -2}, {}, "pass columns={'quantity': 'signed_quantity'}"),
        ({"price": math.nan}, {}, "row 0: price: nan is not allowed; pass a value"),
        ({"price": "-"}, {}, "row 0: price: '-' is not allowed; pass a value"),
        ({"symbol": math.nan}, {}, "row 0: symbol: nan is not allowed; pass a value"),
        ({"price": None}, {}, "row 0: price: None is not allowed; pass a value"),
    ],
)
def test_a_frame_that_does_not_fit(
    changes: dict[str, Any], columns: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValidationError, match=re.escape(expected)):
        import_trades([ROW | changes], columns)
    assert trades.get_trade_count() == 0


@pytest.mark.parametrize(("name", "value"), [("exchange", 3), ("strategy", 3)])
def test_an_argument_that_is_no_text(name: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=rf"^{name}: 3 is not text") as caught:
        import_trades([ROW], **{name: value})
    assert caught.value.field == name
