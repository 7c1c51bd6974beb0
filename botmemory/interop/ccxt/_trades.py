"""Import of the trades that `fetch_my_trades` of ccxt returns."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby, islice
from operator import attrgetter
from typing import Any

from ... import exact
from ..._arguments import checked_call
from ..._values import plain_text, to_text
from ...database import session_scope
from ...errors import ValidationError, show
from ...repositories import trades
from .._conflicts import OnConflict, check_on_conflict, record_fill
from .._fees import fee_in_one_column
from .._ids import checked_names
from .._result import ImportResult, Outcome, RowIssue
from ._cash_flows import funding_flows, record_flow
from ._contract_sizes import ContractSizes, is_derivative
from ._not_fills import is_payment_of_bybit, require_fill
from ._rows import ROWS_PER_TRANSACTION, id_of, number, require_rows, timestamp

# keys without a column
METADATA_KEYS = ("order", "type", "takerOrMaker", "cost", "info")


@dataclass(slots=True)
class Fill:
    """A fill of ccxt, and the arguments of `get_or_create` for it."""

    index: int
    row: Mapping[str, Any]
    values: dict[str, Any]
    warning: str  # or ""

    @property
    def timestamp(self) -> Any:
        return self.values["timestamp"]

    @property
    def symbol(self) -> Any:
        return self.values["symbol"]

    @property
    def trade_id(self) -> Any:
        return self.values["exchange_trade_id"]

    def issue(self, reason: str) -> RowIssue:
        return RowIssue(self.index, reason, self.row)


@checked_call
def import_trades(
    unified_trades: Iterable[Mapping[str, Any]],
    *,
    exchange: str,
    strategy: str | None = None,
    markets: Mapping[str, Any] | None = None,
    on_conflict: OnConflict = "report",
) -> ImportResult:
    """Record the fills that ccxt returns, each once.

    A fill is identified by exchange, symbol and trade id. Call it after every reconnect, from any
    number of bots. Fills of a call that fails half-way stay recorded; repeat the call to record the
    others.

    The quantity is `amount`, which is a number of contracts for a derivative. How much one contract
    is comes from `markets`; without them from the fill's cost, price and amount, where no other
    size is likely to fit them, or from another fill of the symbol. A fill that already exists
    without a contract size gets it, so that a second import with `markets` completes the first.

    Fills may be in any order; they are recorded from the oldest to the newest, 500 at a time. Those
    of one timestamp are recorded in the order of their ids where these are numbers, otherwise in
    the order in which they are given, or its reverse where they are given from the newest to the
    oldest: `positions` takes them in that order.

    `info`, the order and the cost are in `trade_metadata`. If fees are in several currencies, one
    is in `fee`, all are in the metadata, and the result has a warning.

    Rows that the exchange's own marker in `info` calls something else than a fill are no trades.
    Funding of Bybit is recorded as a cash flow, as `import_funding` records it.

    Args:
        unified_trades: The trades, such as `fetch_my_trades` returns them.
        exchange: The exchange of all of them, such as `exchange.id` of ccxt.
        strategy: The strategy of all of them.
        markets: `exchange.markets` of ccxt, for derivatives.
        on_conflict: What to do with a fill whose id is recorded with another side, price, quantity,
            time or fee, as exchanges reuse one for the parts of an order: "report" lists it in
            `conflicts` and leaves the recorded one; "error" raises; "update" writes the new values;
            "keep_both" records it too, with the id `28457#2` after `28457`.

    Returns:
        The counts. `conflicts` has the fills that differ from the recorded one, `rejected` those
        without an id, side, time, price or amount, and what is no fill. `warnings` names each
        symbol whose contract size is not known. `flows_created` counts the funding of Bybit.

    Raises:
        ValidationError: An argument is invalid.
        DuplicateError: A fill is in conflict and `on_conflict` is "error".
        DatabaseBusyError: Another program held the write lock for longer than `busy_timeout`.
        StorageError: The database cannot be written.
    """
    require_rows("unified_trades", unified_trades, "trades")
    check_on_conflict(on_conflict)
    exchange = checked_names(exchange, strategy)
    shared: dict[str, Any] = {"exchange": exchange, "strategy": strategy}
    sizes = ContractSizes(exchange, markets)
    outcome = Outcome()
    doubtful: dict[str, RowIssue] = {}  # the warning about a contract size, by symbol
    unknown: dict[str, RowIssue] = {}
    unsized: defaultdict[str, list[uuid.UUID]] = defaultdict(list)  # ids of trades by symbol
    # read before the transaction begins: the exchange may be slow
    numbered = _without_payments(unified_trades, shared, outcome)
    for batch in _batches(numbered, outcome.rejected):
        for fill in batch:
            if is_derivative(fill.symbol) and (warning := _add_contract_size(fill, sizes)):
                doubtful.setdefault(fill.symbol, fill.issue(warning))
        with session_scope():
            for fill in batch:
                try:
                    _complete(fill, sizes)
                    trade, is_new, conflict = record_fill(
                        fill.index, fill.row, fill.values | shared, on_conflict
                    )
                except ValidationError as error:
                    outcome.rejected.append(fill.issue(str(error)))
                    continue
                if conflict is None or is_new:
                    outcome.counts[is_new] += 1
                if conflict is not None:
                    outcome.conflicts.append(conflict)
                if fill.warning:
                    outcome.warnings.append(fill.issue(fill.warning))
                if trade.contract_size is None and is_derivative(trade.symbol):
                    unknown.setdefault(trade.symbol, fill.issue(_no_size(fill, markets)))
                    unsized[trade.symbol].append(trade.id)
    for symbol, ids in unsized.items():
        if (size := sizes.of_symbol(symbol)) is not None:  # they existed, or a later fill says it
            _set_contract_size(ids, size)
            del unknown[symbol]
    outcome.warnings += [*doubtful.values(), *unknown.values()]
    for issues in (outcome.rejected, outcome.warnings, outcome.conflicts):
        issues.sort(key=attrgetter("index"))
    return outcome.result()


def _complete(fill: Fill, sizes: ContractSizes) -> None:
    """Add the contract size that another fill of the symbol or the markets say."""
    if fill.values["contract_size"] is None and is_derivative(fill.symbol):
        fill.values["contract_size"] = sizes.of_symbol(fill.symbol)


def _add_contract_size(fill: Fill, sizes: ContractSizes) -> str:
    """Add the contract size that a fill itself says, and return a warning or ""."""
    values = fill.values
    size, warning = sizes.of_fill(
        fill.symbol, values["price"], values["quantity"], fill.row.get("cost")
    )
    values["contract_size"] = size
    return warning


def _no_size(fill: Fill, markets: Mapping[str, Any] | None) -> str:
    problem = f"contract_size: that of {fill.symbol} is not known, and counts as 1"
    if markets is None:
        return f"{problem}; import the fills again with markets=exchange.markets"
    return f"{problem}; markets has none for it: pass exchange.markets after load_markets()"


def _set_contract_size(ids: list[uuid.UUID], size: float) -> None:
    for start in range(0, len(ids), ROWS_PER_TRANSACTION):
        with session_scope():
            for trade_id in ids[start : start + ROWS_PER_TRANSACTION]:
                trade = trades.get_by_id(trade_id)
                if trade is not None and trade.contract_size is None:
                    trades.update(trade, contract_size=size)


def _without_payments(
    rows: Iterable[Any], shared: dict[str, Any], outcome: Outcome
) -> Iterator[tuple[int, Any]]:
    """Yield the rows with their indexes, and record those that are funding as cash flows."""
    for index, row in enumerate(rows):
        if not is_payment_of_bybit(row):
            yield index, row
            continue
        try:
            with session_scope():
                flows = funding_flows(row)
                outcome.flow_counts.update(record_flow(**shared, flow=flow) for flow in flows)
        except ValidationError as error:
            outcome.rejected.append(RowIssue(index, str(error), row))


# --- in which order ----------------------------------------------------------------------------


def _batches(numbered: Iterator[tuple[int, Any]], rejected: list[RowIssue]) -> Iterator[list[Fill]]:
    """Yield the fills in the order of recording, as many as one transaction records.

    Those of the last timestamp that was read wait for the next batch, which may have more of them.
    """
    fills: list[Fill] = []
    while batch := list(islice(numbered, ROWS_PER_TRANSACTION - len(fills))):
        for index, row in batch:
            try:
                fills.append(_parse(index, row))
            except ValidationError as error:
                rejected.append(RowIssue(index, str(error), row))
        times = {fill.timestamp for fill in fills}
        # so many of one timestamp do not wait
        is_full = len(times) == 1 and len(fills) == ROWS_PER_TRANSACTION
        last = fills[-1].timestamp if fills and not is_full else None
        if complete := [fill for fill in fills if fill.timestamp != last]:
            yield _in_order(complete)
        fills = [fill for fill in fills if fill.timestamp == last]
    if fills:
        yield _in_order(fills)


def _in_order(fills: list[Fill]) -> list[Fill]:
    """Return fills by timestamp, and those of one timestamp in the exchange's own order."""
    times = [fill.timestamp for fill in fills]
    if times[0] > times[-1] and times == sorted(times, reverse=True):
        fills = fills[::-1]
    ordered: list[Fill] = []
    for _, group in groupby(sorted(fills, key=attrgetter("timestamp")), attrgetter("timestamp")):
        same_time = list(group)
        if all(fill.trade_id.isdecimal() for fill in same_time):
            same_time.sort(key=lambda fill: (len(fill.trade_id), fill.trade_id))
        ordered += same_time
    return ordered


# --- what is recorded --------------------------------------------------------------------------


def _parse(index: int, row: Any) -> Fill:
    """Return a fill with the arguments of `get_or_create` but the exchange and the strategy."""
    if not isinstance(row, Mapping):
        raise ValidationError(f"{show(row)} is not a trade of ccxt")
    require_fill(row)
    trade_id = id_of(row)
    if not trade_id:
        raise ValidationError(
            "id: missing, so that a second import could not recognise the fill; record it with "
            "trades.create()"
        )
    symbol = row.get("symbol")
    amount = number(row, "amount")
    fee, currency, warning = _fee(row)
    metadata = {name: row[name] for name in METADATA_KEYS if row.get(name) is not None}
    if warning:
        metadata["fees"] = row.get("fees")
    values = {
        "exchange_trade_id": trade_id,
        "symbol": plain_text(symbol) if isinstance(symbol, str) else symbol,
        "side": row.get("side"),
        "price": _price(row, amount),
        "quantity": amount,
        "timestamp": timestamp(row),
        "fee": fee,
        "fee_currency": currency,
        "trade_metadata": metadata,
        "contract_size": None,
    }
    return Fill(index, row, values, warning)


def _price(row: Mapping[str, Any], amount: float) -> float:
    """Return the price, or cost / amount if it is missing and a unit is no contract."""
    is_spot = not is_derivative(row.get("symbol"))
    if is_spot and row.get("price") is None and row.get("cost") is not None and amount:
        return number(row, "cost") / amount
    return number(row, "price")


def _fee(row: Mapping[str, Any]) -> tuple[float | None, str | None, str]:
    """Return the fee, its currency, and a warning if there are several currencies.

    A rebate is below 0. A fee without a cost does not count.
    """
    sums: defaultdict[str | None, Decimal] = defaultdict(Decimal)
    listed = row.get("fees")
    listed = listed if isinstance(listed, (list, tuple)) else [listed]
    fees: list[Any] = [
        fee for fee in listed if isinstance(fee, Mapping) and fee.get("cost") is not None
    ]
    for fee in fees or [row.get("fee")]:
        if isinstance(fee, Mapping) and fee.get("cost") is not None:
            currency = fee.get("currency") or None
            if currency is not None:
                currency = to_text("fee_currency", currency)
            sums[currency] = exact.add(sums[currency], exact.to_decimal(number(fee, "cost")))
    return fee_in_one_column(sums, "fees")
