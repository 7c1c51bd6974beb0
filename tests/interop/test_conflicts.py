"""A fill whose id is recorded with other content is in `conflicts`, with both contents."""

from __future__ import annotations

from typing import Any

import pytest

from botmemory import DuplicateError, ValidationError
from botmemory.interop.ccxt import import_trades
from botmemory.repositories import positions, trades

pytestmark = pytest.mark.usefixtures("empty_database")

START = 1_700_000_000_000  # milliseconds


def fill(**values: Any) -> dict[str, Any]:
    return {
        "id": "1",
        "timestamp": START,
        "symbol": "BTC/USDT",
        "side": "buy",
        "price": 100.0,
        "amount": 1.0,
        "fee": {"cost": 0.1, "currency": "USDT"},
    } | values


GROWN = fill(amount=3.0)
OTHERS = [
    (GROWN, "quantity is 1.0, and 3.0 in this row"),
    (fill(side="sell"), "side is 'buy', and 'sell' in this row"),
    (fill(price=101.0), "price is 100.0, and 101.0 in this row"),
    (fill(timestamp=START + 1), "timestamp is 2023-11-14 22:13:20, and 2023-11-14 22:13:20.001"),
    (fill(fee={"cost": 0.2, "currency": "USDT"}), "fee is 0.1, and 0.2 in this row"),
    (fill(fee={"cost": 0.1, "currency": "BNB"}), "fee_currency is 'USDT', and 'BNB' in this row"),
]


@pytest.mark.parametrize(("other", "difference"), OTHERS)
@pytest.mark.parametrize("apart", [True, False])
def test_a_conflict_is_reported_with_both_contents(
    other: dict[str, Any], difference: str, apart: bool
) -> None:
    calls = [[fill()], [other]] if apart else [[fill(), other]]
    results = [import_trades(call, exchange="okx") for call in calls]
    assert [(result.created, result.skipped) for result in results] == [(1, 0), (0, 0)][: 1 + apart]
    [conflict] = results[-1].conflicts
    assert results[-1].conflict_count == 1
    assert conflict.index == (0 if apart else 1)
    assert conflict.row == other
    assert conflict.recorded["quantity"] == 1.0
    assert conflict.reason.startswith(
        "exchange_trade_id '1' of BTC/USDT at okx is recorded already"
    )
    assert difference in conflict.reason
    assert conflict.reason.endswith("; this row was not recorded")
    [trade] = trades.get_all()
    assert (trade.side, trade.price, trade.quantity, trade.fee) == ("buy", 100.0, 1.0, 0.1)


def test_what_is_missing_in_a_row_is_no_conflict() -> None:
    import_trades([fill()], exchange="okx", strategy="trend")
    assert import_trades([fill(fee=None)], exchange="okx", strategy="other").skipped == 1
    # what the user changed or added is not what the exchange says of a fill
    trades.update(trades.get_all()[0], pnl=1.0, strategy="mine", trade_metadata={"note": 1})
    result = import_trades([fill(info={"more": 1})], exchange="okx", strategy="trend")
    assert (result.skipped, result.conflicts) == (1, [])


def test_update_writes_what_the_exchange_says_now() -> None:
    import_trades([fill()], exchange="okx")
    trades.update(trades.get_all()[0], pnl=5.0)
    result = import_trades([GROWN], exchange="okx", on_conflict="update")
    assert (result.created, result.skipped) == (0, 0)
    assert result.conflicts[0].recorded["quantity"] == 1.0
    assert result.conflicts[0].reason.endswith("; the recorded row was updated")
    [trade] = trades.get_all()
    assert (trade.quantity, trade.pnl) == (3.0, 5.0)
    assert positions.get("BTC/USDT").quantity == 3.0
    assert import_trades([GROWN], exchange="okx").skipped == 1


def test_keep_both_records_each_content_once() -> None:
    parts = [fill(), fill(amount=2.0, timestamp=START + 1), fill(amount=4.0, timestamp=START + 2)]
    first = import_trades(parts, exchange="okx", on_conflict="keep_both")
    assert (first.created, first.skipped, first.conflict_count) == (3, 0, 2)
    assert positions.get("BTC/USDT").quantity == 7.0
    assert [trade.exchange_trade_id for trade in trades.iterate()] == ["1", "1#2", "1#3"]
    for word in ("keep_both", "report", "error"):
        again = import_trades(reversed(parts), exchange="okx", on_conflict=word)  # type: ignore[arg-type]
        assert (again.created, again.skipped, again.conflicts) == (0, 3, [])


def test_error_stops_the_import_and_its_transaction() -> None:
    import_trades([fill()], exchange="okx")
    rows = [fill(id="2"), GROWN]
    with pytest.raises(DuplicateError, match="quantity is 1.0, and 3.0 in this row; with on_conf"):
        import_trades(rows, exchange="okx", on_conflict="error")
    assert [trade.quantity for trade in trades.get_all()] == [1.0]


def test_another_word_is_refused() -> None:
    with pytest.raises(ValidationError, match="on_conflict: 'skip' is not one of 'report', 'error"):
        import_trades([], exchange="okx", on_conflict="skip")  # type: ignore[arg-type]
