"""The tables that other programs make of their trades are recorded, with the PnL they have there.

Each program runs random histories that end flat, and imports its own table, with the columns and
the layout that `docs/history.md` has for it; see `tests/other_programs/`.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from installed import answer, answer_once, install, python_path
from paths import OTHER_PROGRAMS, ROOT
from random_fills import (
    BITCOIN,
    BITCOIN_CONTRACT,
    DOGE,
    Fill,
    History,
    Market,
    Rules,
    given,
    histories,
)

from botmemory.interop.files import Layout  # noqa: F401  (the page says it)

pytestmark = pytest.mark.long

ROW = re.compile(r"\| ([\w.]+) \|.*\| `(\{.*\})` \| `(Layout\(.*\))` \|")


def imports_of(program: str) -> list[dict[str, Any]]:
    """Return the columns and the layouts that the page has for the table of a program."""
    page = (ROOT / "docs" / "history.md").read_text(encoding="utf-8")
    return [
        {"columns": eval(columns), "layout": asdict(eval(layout))}
        for name, columns, layout in ROW.findall(page)
        if name == program
    ]


def flat_at_the_end(market: Market) -> list[History]:
    """Return random histories whose last fill closes what is open."""
    past = histories([market], Rules(), count=20)
    for each in past:
        lots = [
            round(fill.quantity / market.lot) * (1 if fill.side == "buy" else -1)
            for fill in each.fills
        ]
        if held := sum(lots):
            price = each.fills[-1].mark
            quantity = round(abs(held) * market.lot, 10)
            each.fills.append(Fill("sell" if held > 0 else "buy", quantity, price, price))
    return past


def compare(program: str, answers: list[dict[str, Any]]) -> None:
    """Compare what is recorded with what the program says, and that it is recorded once."""
    assert answers
    imports = len(imports_of(program))
    for ours, theirs in ((each["ours"], each["theirs"]) for each in answers):
        rows, none = [theirs["rows"]] * imports, [0] * imports
        assert (ours["created"], ours["skipped"]) == (rows + none, none + rows)
        assert ours["last"] == theirs["last"]
        assert ours["quantity"] == 0.0
        assert ours["fees"] == pytest.approx(theirs["fees"], rel=1e-9)
        net_pnl = ours["gross_pnl"] - ours["fees"]
        assert net_pnl == pytest.approx(theirs["net_pnl"], rel=1e-9, abs=1e-9)


def compare_table(
    factory: pytest.TempPathFactory,
    program: str,
    file: str,
    package: str,
    market: Market = DOGE,  # traded in whole numbers
) -> list[dict[str, Any]]:
    """Let a program make its table and import it, compare that, and return the answers."""
    asked = {"imports": imports_of(program), "histories": given(flat_at_the_end(market))}
    answers: list[dict[str, Any]] = answer_once(factory, package, OTHER_PROGRAMS / file, asked)
    compare(program, answers)
    return answers


def test_backtesting_py(tmp_path_factory: pytest.TempPathFactory) -> None:
    answers = compare_table(
        tmp_path_factory, "backtesting.py", "with_backtesting_table.py", "backtesting==0.6.6"
    )
    for each in answers:  # its PnL is after commissions
        assert each["ours"]["recorded_pnl"] == pytest.approx(each["theirs"]["net_pnl"], rel=1e-9)


def test_backtrader(tmp_path_factory: pytest.TempPathFactory) -> None:
    compare_table(
        tmp_path_factory,
        "backtrader",
        "with_backtrader_table.py",
        "backtrader==1.9.78.123",
        BITCOIN._replace(lot=2**-10),  # its sizes are floats, which add up without rounding so
    )


def test_nautilus_trader(tmp_path_factory: pytest.TempPathFactory) -> None:
    compare_table(
        tmp_path_factory,
        "NautilusTrader",
        "with_nautilus_table.py",
        "nautilus_trader==1.221.0",
        BITCOIN_CONTRACT,
    )


def test_vectorbt(tmp_path_factory: pytest.TempPathFactory) -> None:
    compare_table(tmp_path_factory, "vectorbt", "with_vectorbt_table.py", "vectorbt==1.2.0")


def test_vnpy(tmp_path: Path) -> None:
    """Of its dependencies those are installed that its engine for backtests imports, without Qt."""
    install(tmp_path, "vnpy==4.5.0", dependencies=("ta-lib", "loguru", "tzlocal", "deap"))
    install(tmp_path, "vnpy_ctastrategy==1.4.1", dependencies=("plotly", "tqdm"))
    asked = {"imports": imports_of("vnpy"), "histories": given(flat_at_the_end(DOGE))}
    environment = python_path(tmp_path)
    for language in ("en", "zh"):  # of the texts of its constants
        environment["LANGUAGE"] = language
        compare("vnpy", answer(OTHER_PROGRAMS / "with_vnpy_table.py", asked, environment))


def test_polars(tmp_path_factory: pytest.TempPathFactory) -> None:
    frame = {
        "symbol": ["BTC/USDT", "ETH/USDT"],
        "side": ["buy", "sell"],
        "price": ["42000.10", "2500.20"],
        "quantity": [1, 2],
        "timestamp": ["2024-01-01T10:00:00.123456789", "2024-01-01T11:00:00"],
    }
    assert answer_once(
        tmp_path_factory, "polars==2.1.0", OTHER_PROGRAMS / "with_polars.py", frame
    ) == {
        "created": [2, 0],
        "symbol": frame["symbol"],
        "side": frame["side"],
        "price": ["42000.1", "2500.2"],
        "quantity": ["1.0", "2.0"],
        "fee": ["None", "None"],
        "timestamp": ["2024-01-01 01:00:00.123456+00:00", "2024-01-01 02:00:00+00:00"],
        "trade_metadata": ["{'parts': [1, 2], 'held': '2:00:00'}", "{'parts': [3]}"],
    }
