"""Import of the money that moves without a trade: funding, ledger, deposits and withdrawals."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from itertools import islice
from math import isclose
from typing import Any

from ..._arguments import checked_call
from ...database import session_scope
from ...errors import ValidationError, show
from ...models import CashFlow
from ...repositories import cash_flows
from ...symbols import quote_of
from .._ids import checked_names
from .._result import ImportResult, RowIssue
from ._rows import ROWS_PER_TRANSACTION, id_of, number, require_rows, timestamp

# a row of ccxt -> the arguments of `get_or_create` for it and for its fee; none if it is no flow
Parser = Callable[[Mapping[str, Any]], list[dict[str, Any]]]

# keys without a column
METADATA_KEYS = (
    "type",
    "rate",
    "txid",
    "network",
    "address",
    "tag",
    "account",
    "referenceId",
    "referenceAccount",
    "info",
)
# ccxt's type of a ledger entry -> the kind of its flow
KINDS = {
    "rollover": "interest",
    "referral": "payout",
    "bonus": "payout",
    "cashback": "payout",
    "airdrop": "payout",
    "payout": "payout",
    "prize": "payout",
    "reward": "payout",
    "staking": "payout",
    "transfer": "transfer",
}
# ccxt's types of what other functions record
TYPES_OF_TRADES = {
    "trade", "buy", "sell", "fee", "commission", "margin", "pnl", "adl", "auto-deleveraging",
}  # fmt: skip
TYPES_OF_TRANSACTIONS = {
    "transaction", "deposit", "withdrawal", "withdraw", "deposit/withdraw", "rollback",
    "withdrawal_cancellation",
}  # fmt: skip
# the keys under which exchanges have their own type of a ledger entry
OWN_TYPE_KEYS = (
    "type",
    "incomeType",
    "businessType",
    "bizType",
    "groupType",
    "transferType",
    "journal_type",
    "info",
)
# ccxt's type, what the exchange's own has in it, and the kind
OWN_KINDS = (
    ("fee", "refund", "rebate"),
    ("fee", "returned_fees", "rebate"),  # of KuCoin: what a trade cost is paid in KCS instead
    ("fee", "kcs", "fee"),
    ("fee", "deduction_fees", "fee"),
    ("fee", "funding", "funding"),
    ("fee", "settle_fee", "funding"),  # of Bitget
    ("fee", "interest", "interest"),
    ("fee", "withdraw", "fee"),
    ("fee", "liquidation", "fee"),
    ("fee", "tax", "fee"),
    ("cashback", "refund", "rebate"),
    ("credit", "interest", "interest"),
    ("transaction", "interest", "interest"),
    ("transaction", "transfer", "transfer"),
)
# the same for an own type that is so short that it must be equal
SHORT_OWN_KINDS = {("fee", "fund"): "funding"}
# the types of OKX are numbers
OKX_KINDS = {("fee", "8"): "funding", ("trade", "7"): "interest"}
# Keys that only entries of OKX, Bybit and KuCoin have. ccxt's amount is without the fee, but theirs
# is the change of the balance.
OKX_KEY, BYBIT_KEY, KUCOIN_KEYS = "balChg", "cashFlow", ("accountType", "accountEquity")
KEYS_OF_CHANGES = (OKX_KEY, BYBIT_KEY, *KUCOIN_KEYS)
# the relative difference up to which two amounts of one id are one, rounded in two ways
ROUNDING = 1e-6
NO_HASH = re.compile("0x0+")  # Hyperliquid gives it to all funding


@checked_call
def import_funding(
    rows: Iterable[Mapping[str, Any]], *, exchange: str, strategy: str | None = None
) -> ImportResult:
    """Record the funding payments that `fetch_funding_history` of ccxt returns, each once.

    An amount is above 0 where it was received. Where the exchange gives no id, a payment is
    identified by its time, symbol, currency and amount.

    Args:
        rows: The payments.
        exchange: The exchange of all of them, such as `exchange.id` of ccxt.
        strategy: The strategy of all of them.

    Returns:
        The counts. `rejected` has the rows without a time, currency or amount.

    Raises:
        ValidationError: An argument is invalid.
        DatabaseBusyError: Another program held the write lock for longer than `busy_timeout`.
        StorageError: The database cannot be written.
    """
    return _import("rows", rows, funding_flows, exchange, strategy)


@checked_call
def import_ledger(
    entries: Iterable[Mapping[str, Any]], *, exchange: str, strategy: str | None = None
) -> ImportResult:
    """Record the entries that `fetch_ledger` of ccxt returns, each once, without trades.

    Recorded are funding, interest, rebates, payouts (referrals, bonuses, rewards), transfers
    between own accounts, and under the kind `other` what ccxt has no name for. Trades and their
    fees, deposits and withdrawals are left out: `import_trades` and `import_deposits_withdrawals`
    record them. So are entries that are not completed.

    An entry is identified by its kind and id; where two entries with one id differ in currency or
    amount, both are recorded. Without an id it is identified by all that the exchange says of it.

    On most exchanges funding has one id in the ledger and in the funding history, and is recorded
    once. Where the ids differ (Bybit) or are missing (Gate), use either this function or
    `import_funding`.

    Args:
        entries: The entries of the ledger.
        exchange: The exchange of all of them, such as `exchange.id` of ccxt.
        strategy: The strategy of all of them.

    Returns:
        The counts. `left_out` is the number of entries that are recorded elsewhere or not
        completed. `rejected` has those without a time, currency or amount.

    Raises:
        ValidationError: An argument is invalid.
        DatabaseBusyError: Another program held the write lock for longer than `busy_timeout`.
        StorageError: The database cannot be written.
    """
    return _import("entries", entries, _ledger_entry, exchange, strategy)


@checked_call
def import_deposits_withdrawals(
    rows: Iterable[Mapping[str, Any]], *, exchange: str
) -> ImportResult:
    """Record what `fetch_deposits_withdrawals` of ccxt returns, each once.

    Deposits are above 0, withdrawals below. Their fees are cash flows of their own, of the kind
    `fee`. Only those with the status `ok` are recorded: repeat the call when others are completed.

    Args:
        rows: The deposits and withdrawals, also those of `fetch_deposits` and `fetch_withdrawals`.
        exchange: The exchange of all of them, such as `exchange.id` of ccxt.

    Returns:
        The counts, without the fees. `left_out` is the number of those with another status.
        `rejected` has the rows without a type, time, currency or amount.

    Raises:
        ValidationError: An argument is invalid.
        DatabaseBusyError: Another program held the write lock for longer than `busy_timeout`.
        StorageError: The database cannot be written.
    """
    return _import("rows", rows, _deposit_or_withdrawal, exchange, None)


def _import(
    name: str, rows: Iterable[Any], parse: Parser, exchange: str, strategy: str | None
) -> ImportResult:
    require_rows(name, rows, "rows of ccxt")
    exchange = checked_names(exchange, strategy)
    counts: Counter[bool] = Counter()  # the rows that are new, and the others
    rejected: list[RowIssue] = []
    left_out = 0
    numbered = enumerate(rows)
    # read before the transaction begins: the exchange may be slow
    while batch := list(islice(numbered, ROWS_PER_TRANSACTION)):
        with session_scope():
            for index, row in batch:
                try:
                    if not isinstance(row, Mapping):
                        raise ValidationError(f"{show(row)} is not a row of ccxt")
                    flows = parse(row)
                    with session_scope():  # a row and its fee, or neither
                        are_new = [record_flow(exchange, strategy, flow) for flow in flows]
                except ValidationError as error:
                    rejected.append(RowIssue(index, str(error), row))
                    continue
                if are_new:
                    counts[are_new[0]] += 1  # the others are its fees
                else:
                    left_out += 1
    return ImportResult(
        counts[True], counts[False], rejected, rejected_count=len(rejected), left_out=left_out
    )


def record_flow(exchange: str, strategy: str | None, flow: dict[str, Any]) -> bool:
    """Record a flow, and return whether it is new; one that exists gets a symbol that it lacks."""
    flow = flow | {"exchange": exchange, "strategy": strategy}
    recorded, is_new = cash_flows.get_or_create(**flow)
    if not is_new and not _is_same(recorded, flow):  # such as of two types that are one kind here
        flow["exchange_flow_id"] += f":{flow['currency']}:{flow['amount']:.17g}"
        recorded, is_new = cash_flows.get_or_create(**flow)
    if recorded.symbol is None and flow.get("symbol") is not None:
        cash_flows.update(recorded, symbol=flow["symbol"])
    return is_new


def _is_same(recorded: CashFlow, flow: dict[str, Any]) -> bool:
    return recorded.currency == flow["currency"] and isclose(
        recorded.amount, flow["amount"], rel_tol=ROUNDING
    )


def funding_flows(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the flow of a funding payment, which may be among the trades of Bybit."""
    symbol, currency, amount = row.get("symbol"), row.get("code"), number(row, "amount")
    info = _info(row)
    if info.get("execFee") not in (None, ""):
        # ccxt has what Bybit reports: the fee, above 0 where it was paid, without its currency
        amount = -number(info, "execFee")
        currency = quote_of(symbol) if isinstance(symbol, str) else currency
    return [_flow(row, "funding", currency, amount) | {"symbol": symbol}]


def _ledger_entry(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    info, kind = _info(row), _ledger_kind(row)
    # Bybit pays funding in an entry that may also have what the trades of a session earned
    is_settlement = BYBIT_KEY in info and info.get("type") == "SETTLEMENT"
    if is_settlement and info.get("funding") and (funding := number(info, "funding")):
        return [_flow(row, "funding", row.get("currency"), funding)]
    if kind is None or row.get("status") not in (None, "ok"):
        return []
    amount, direction = number(row, "amount"), row.get("direction")
    if direction in ("in", "out"):
        amount = -abs(amount) if direction == "out" else abs(amount)
    flow = _flow(row, kind, row.get("currency"), amount)
    if kind == "funding":  # of the position in a symbol, where the exchange says which
        flow["symbol"] = row.get("symbol")
    if any(key in info for key in KEYS_OF_CHANGES):
        return [flow]
    return [flow, *_fee_flows(row, flow)]


def _ledger_kind(row: Mapping[str, Any]) -> str | None:
    """Return the kind of a ledger entry; None if another function records it."""
    entry_type, info = str(row.get("type") or "").lower(), _info(row)
    own = [str(info[name]).lower() for name in OWN_TYPE_KEYS if info.get(name) is not None]
    equal_kinds = OKX_KINDS if OKX_KEY in info else SHORT_OWN_KINDS
    for name in own:
        if kind := equal_kinds.get((entry_type, name)):
            return kind
    for of_ccxt, part, kind in OWN_KINDS:
        if entry_type == of_ccxt and any(part in name for name in own):
            return kind
    # what ccxt has no type for keeps the exchange's own, such as perpetual_futures_funding
    for kind in ("funding", "interest", "rebate"):
        if kind in entry_type:
            return kind
    if entry_type in TYPES_OF_TRADES or entry_type in TYPES_OF_TRANSACTIONS:
        return None
    return KINDS.get(entry_type, "other")


def _info(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the exchange itself says of a row."""
    info = row.get("info")
    return info if isinstance(info, Mapping) else {}


def _deposit_or_withdrawal(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    kind = row.get("type")
    if kind not in ("deposit", "withdrawal"):
        raise ValidationError(f"type: {show(kind)} is neither 'deposit' nor 'withdrawal'")
    if row.get("status") != "ok":
        return []
    amount = abs(number(row, "amount"))
    flow = _flow(row, kind, row.get("currency"), amount if kind == "deposit" else -amount)
    return [flow, *_fee_flows(row, flow)]


def _flow(row: Mapping[str, Any], kind: str, currency: Any, amount: float) -> dict[str, Any]:
    """Return the arguments of `get_or_create` but the exchange and the strategy."""
    time = timestamp(row)
    metadata = {name: row[name] for name in METADATA_KEYS if row.get(name) is not None}
    return {
        "exchange_flow_id": f"{kind}:{_id(row, kind, time, currency, amount)}",
        "timestamp": time,
        "kind": kind,
        "currency": currency,
        "amount": amount,
        "metadata": metadata or None,
    }


def _id(row: Mapping[str, Any], kind: str, time: datetime, currency: Any, amount: float) -> str:
    """Return what identifies a row among those of its kind; OKX numbers each kind by itself."""
    own_id = id_of(row)
    if own_id and not NO_HASH.fullmatch(own_id):
        return own_id
    parts = (row.get("txid"), time.isoformat(), row.get("symbol"), currency, f"{amount:.17g}")
    content = ":".join(str(part) for part in parts if part)
    # what is said of a transaction changes, such as the number of its confirmations
    if row.get("symbol") or kind in ("deposit", "withdrawal"):
        return content
    # ledger entries of one time and amount may be of different contracts, as those of Gate are
    info = json.dumps(_info(row), sort_keys=True, default=str)
    return f"{content}:{hashlib.sha256(info.encode()).hexdigest()[:16]}"


def _fee_flows(row: Mapping[str, Any], flow: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the fee of a row as a flow, if it has one."""
    fee = row.get("fee")
    if not isinstance(fee, Mapping) or fee.get("cost") is None:
        return []
    cost = number(fee, "cost")
    if not cost:
        return []
    changes = {
        "exchange_flow_id": f"fee:{flow['exchange_flow_id']}",
        "kind": "fee",
        "currency": fee.get("currency") or flow["currency"],
        "amount": -cost,
    }
    return [flow | changes]
