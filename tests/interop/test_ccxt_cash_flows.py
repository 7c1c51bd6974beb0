"""Funding, ledger, deposits and withdrawals of ccxt are recorded once, as cash flows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import ccxt
import pytest
from ccxt_answers import api_of, market_of

from botmemory import ValidationError
from botmemory.interop.ccxt import import_deposits_withdrawals, import_funding, import_ledger
from botmemory.repositories import cash_flows

pytestmark = pytest.mark.usefixtures("empty_database")
TIME = datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)


def row(**values: Any) -> dict[str, Any]:
    return {
        "id": "1",
        "timestamp": 1_700_000_000_123,
        "currency": "USDT",
        "code": "USDT",
        "amount": 1.5,
        "info": {"raw": "1"},
    } | values


def recorded() -> list[tuple[str, str, float]]:
    return [(flow.kind, flow.currency, flow.amount) for flow in cash_flows.iterate()]


class TestFunding:
    def test_a_payment_of_binance(self) -> None:
        market = market_of("ETH/USDT:USDT", "ETHUSDT")
        answer = {
            "symbol": "ETHUSDT",
            "incomeType": "FUNDING_FEE",
            "income": "0.00134317",
            "asset": "USDT",
            "time": "1621584000000",
            "info": "FUNDING_FEE",
            "tranId": "4480321991774044580",
            "tradeId": "",
        }
        payment = api_of("binanceusdm", market).parse_income(answer, market)
        result = import_funding([payment], exchange="binanceusdm", strategy="a")
        assert (result.created, result.rejected, result.warnings) == (1, [], [])
        [flow] = cash_flows.get_latest()
        assert (flow.kind, flow.symbol, flow.strategy) == ("funding", "ETH/USDT:USDT", "a")
        assert (flow.currency, flow.amount) == ("USDT", 0.00134317)
        assert flow.timestamp == datetime(2021, 5, 21, 8, tzinfo=UTC)
        assert (flow.exchange, flow.exchange_flow_id) == (
            "binanceusdm",
            "funding:4480321991774044580",
        )
        assert flow.metadata["info"] == answer
        again = import_funding([payment], exchange="binanceusdm")
        assert (again.created, again.skipped) == (0, 1)

    def test_payments_of_gate_have_no_ids(self) -> None:
        market = market_of("XRP/USDT:USDT", "XRP_USDT")
        answer = {
            "time": 1646899200,
            "change": "-0.027722",
            "balance": "11.653120591841",
            "text": "XRP_USDT",
            "type": "fund",
        }
        api = api_of("gate", market)
        later = answer | {"time": 1646928000}
        payments = [api.parse_funding_history(each, market) for each in (answer, later)]
        for created in (2, 0):
            result = import_funding(payments, exchange="gate")
            assert (result.created, result.skipped) == (created, 2 - created)
        assert recorded() == [("funding", "USDT", -0.027722)] * 2

    @pytest.mark.parametrize(("symbol", "currency"), [("SOL/USDT:USDT", "USDT"), ("A/USD:A", "A")])
    def test_bybit_reports_what_is_paid(self, symbol: str, currency: str) -> None:
        market = market_of(symbol, "MARKET")
        answer = {
            "symbol": "MARKET",
            "orderType": "UNKNOWN",
            "execTime": "1719129600000",
            "feeRate": "-0.000761",
            "execPrice": "137.11",
            "execValue": "134.3678",
            "execType": "Funding",
            "side": "Sell",
            "execFee": "-0.10232512",  # received
            "execId": "8d1ef156-4ec6-4445-9a6c-1c0c24dbd046",
            "execQty": "0.98",
        }
        payment = api_of("bybit", market).parse_income(answer, market)
        import_funding([payment], exchange="bybit")
        assert recorded() == [("funding", currency, 0.10232512)]

    def test_hyperliquid_has_one_hash_for_all(self) -> None:
        payments = [
            row(id="0x" + "0" * 64, symbol=symbol, timestamp=time)
            for symbol in ("SOL/USDC:USDC", "BTC/USDC:USDC")
            for time in (1734026400057, 1734030000057)
        ]
        for created in (4, 0):
            assert import_funding(payments, exchange="hyperliquid").created == created


def entry_of(exchange: str, answer: dict[str, Any]) -> dict[str, Any]:
    """Return a ledger entry as ccxt parses it."""
    try:
        entry: dict[str, Any] = getattr(ccxt, exchange)().parse_ledger_entry(answer)
    except ccxt.NotSupported:
        pytest.skip(f"ccxt {ccxt.__version__} reads no ledger of {exchange}")
    return entry


def income(kind: str, amount: str, **values: Any) -> dict[str, Any]:
    answer = {"symbol": "", "incomeType": kind, "income": amount, "asset": "USDT", "info": kind}
    return answer | {"time": 1677645250000, "tranId": 131001573082, "tradeId": ""} | values


def bill(kind: str, change: str) -> dict[str, Any]:
    answer = {"type": kind, "balChg": change, "bal": "12", "ccy": "BTC", "ts": "1597026383085"}
    return answer | {"billId": f"12344{kind}", "ordId": "", "instId": ""}


def book(kind: str, change: str) -> dict[str, Any]:
    return {
        "id": kind,
        "time": "1647131046",
        "currency": "USDT",
        "change": change,
        "balance": "40.5",
        "type": kind,
    }


def log(info: str, before: str, after: str) -> dict[str, Any]:
    return {
        "asset": "usd",
        "date": "2024-09-17T12:00:00.000Z",
        "id": 16,
        "info": info,
        "old_balance": before,
        "new_balance": after,
        "fee": "0",
        "margin_account": "flex",
    }


def change(kind: str, amount: str, **values: Any) -> dict[str, Any]:
    answer = {"type": kind, "change": amount, "cashFlow": "0", "currency": "USDT", "funding": ""}
    answer |= {"cashBalance": "5086.5", "transactionTime": "1672121182224", "fee": "0"}
    return answer | {"id": "592324_XRPUSDT_161440249321", "symbol": "XRPUSDT"} | values


def kraken(kind: str, amount: str, fee: str = "0.0000") -> dict[str, Any]:
    answer = {"refid": "TSJTGT-DT7WN-GPPQMJ", "time": 1520102320.555, "type": kind}
    return answer | {
        "id": "LTFK7F-N2CUX-PNY4SX",
        "asset": "XETH",
        "amount": amount,
        "fee": fee,
        "balance": "0.28",
    }


class TestLedger:
    @pytest.mark.parametrize(
        ("exchange", "answer", "expected"),
        [
            ("binance", income("TRANSFER", "10.00000000"), ("transfer", "USDT", 10.0)),
            ("binance", income("TRANSFER", "-10.00000000"), ("transfer", "USDT", -10.0)),
            ("binance", income("FUNDING_FEE", "-0.13"), ("funding", "USDT", -0.13)),
            ("binance", income("API_REBATE", "0.5"), ("rebate", "USDT", 0.5)),
            ("binance", income("REFERRAL_KICKBACK", "0.5"), ("payout", "USDT", 0.5)),
            ("binance", income("WELCOME_BONUS", "5"), ("payout", "USDT", 5.0)),
            ("binance", income("INSURANCE_CLEAR", "-3"), ("other", "USDT", -3.0)),
            ("binance", income("COMMISSION", "-0.01"), None),
            ("binance", income("REALIZED_PNL", "20"), None),
            ("binance", income("COIN_SWAP_DEPOSIT", "20"), None),
            ("okx", bill("1", "2"), ("transfer", "BTC", 2.0)),
            ("okx", bill("8", "-0.0003"), ("funding", "BTC", -0.0003)),
            ("okx", bill("7", "-0.0003"), ("interest", "BTC", -0.0003)),
            ("okx", bill("2", "-0.0003"), None),
            ("gate", book("fund", "-0.027722"), ("funding", "USDT", -0.027722)),
            ("gate", book("refr", "0.1"), ("rebate", "USDT", 0.1)),
            ("gate", book("interest", "-0.1"), ("interest", "USDT", -0.1)),
            ("gate", book("futures_in", "7"), ("transfer", "USDT", 7.0)),
            ("gate", book("pnl", "7"), None),
            ("gate", book("fee", "-0.1"), None),
            ("gate", book("dnw", "7"), None),
            ("krakenfutures", log("funding rate change", "5", "4.75"), ("funding", "USD", -0.25)),
            ("krakenfutures", log("interest payment", "5", "4.75"), ("interest", "USD", -0.25)),
            ("krakenfutures", log("futures trade", "5", "4.75"), None),
            ("kraken", kraken("transfer", "-1.5"), ("transfer", "ETH", -1.5)),
            ("kraken", kraken("staking", "0.25"), ("payout", "ETH", 0.25)),
            ("kraken", kraken("trade", "0.25"), None),
            ("kraken", kraken("deposit", "0.25"), None),
        ],
    )
    def test_an_entry_of_each_exchange(
        self, exchange: str, answer: dict[str, Any], expected: tuple[str, str, float] | None
    ) -> None:
        entry = entry_of(exchange, answer)
        result = import_ledger([entry], exchange=exchange)
        assert result.rejected == []
        assert recorded() == ([expected] if expected else [])
        assert (result.created, result.left_out) == ((1, 0) if expected else (0, 1))
        again = import_ledger([entry], exchange=exchange)
        assert (again.created, again.skipped) == (0, result.created)

    def test_a_fee_of_an_entry_is_a_flow_of_its_own(self) -> None:
        entry = entry_of("kraken", kraken("rollover", "0.0000", "0.0013"))
        assert import_ledger([entry], exchange="kraken").created == 1
        assert recorded() == [("interest", "ETH", 0.0), ("fee", "ETH", -0.0013)]

    @pytest.mark.parametrize(
        ("exchange", "answer", "expected"),
        [
            ("okx", bill("1", "-2") | {"fee": "-0.1"}, ("transfer", "BTC", -2.0)),
            ("bybit", change("INTEREST", "-0.3", fee="0.1"), ("interest", "USDT", -0.3)),
            (
                "kucoin",
                {
                    "id": "611a1e7c6a053300067a88d9",
                    "currency": "USDT",
                    "amount": "10.5",
                    "fee": "0.5",
                    "balance": "0",
                    "accountType": "MAIN",
                    "bizType": "Transfer",
                    "direction": "out",
                    "createdAt": 1629101692950,
                },
                ("transfer", "USDT", -10.5),
            ),
        ],
    )
    def test_a_fee_that_is_in_the_change_of_the_balance_counts_once(
        self, exchange: str, answer: dict[str, Any], expected: tuple[str, str, float]
    ) -> None:
        import_ledger([entry_of(exchange, answer)], exchange="my account")
        assert recorded() == [expected]

    def test_bybit_settles_funding_apart_from_what_the_trades_of_a_session_earned(self) -> None:
        entries = [
            entry_of("bybit", change("SETTLEMENT", amount, funding=funding, id=amount))
            for amount, funding in (("-0.25", "-0.25"), ("9.5", "-0.5"), ("7", "0"), ("6", ""))
        ]
        result = import_ledger(entries, exchange="bybit")
        assert (result.rejected, result.left_out) == ([], 2)
        assert recorded() == [("funding", "USDT", -0.25), ("funding", "USDT", -0.5)]

    def test_two_types_of_an_exchange_may_have_one_id(self) -> None:
        answers = [
            income("FUNDING_FEE", "-0.13"),
            income("SPECIAL_FUNDING_FEE", "-0.02"),
            income("FUNDING_FEE", "-0.13", asset="BNB"),
        ]
        entries = [entry_of("binance", answer) for answer in answers]
        for created, given in ((3, entries), (0, entries[::-1])):
            result = import_ledger(given, exchange="binance")
            assert (result.created, result.skipped) == (created, 3 - created)
        assert sorted(recorded()) == [
            ("funding", "BNB", -0.13), ("funding", "USDT", -0.13), ("funding", "USDT", -0.02),
        ]  # fmt: skip

    def test_one_amount_that_is_rounded_in_two_ways_is_one(self) -> None:
        import_ledger([row(type="rebate", amount=0.123456789)], exchange="okx")
        result = import_ledger([row(type="rebate", amount=0.12345678)], exchange="okx")
        assert (result.created, result.skipped) == (0, 1)

    def test_entries_of_gate_without_ids_are_told_apart_by_their_contracts(self) -> None:
        answers = [
            {"time": "1682294400", "change": "-0.5", "balance": "4.5", "text": text, "type": "fund"}
            for text in ("ETH_USD:6086261", "BTC_USD:6086261")
        ]
        for created in (2, 0):
            entries = [entry_of("gate", answer) | {"currency": "USDT"} for answer in answers]
            result = import_ledger(entries, exchange="gate")
            assert (result.created, result.skipped) == (created, 2 - created)

    def test_an_id_may_be_zero(self) -> None:
        rows = [row(id=number, type="rebate") for number in ("0", "00")]
        import_ledger(rows, exchange="okx")
        ids = [flow.exchange_flow_id for flow in cash_flows.iterate()]
        assert ids == ["rebate:0", "rebate:00"]

    def test_funding_in_the_ledger_is_that_of_the_funding_history(self) -> None:
        market = market_of("ETH/USDT:USDT", "ETHUSDT")
        answer = income("FUNDING_FEE", "-0.13", symbol="ETHUSDT")
        import_funding([api_of("binance", market).parse_income(answer)], exchange="binance")
        result = import_ledger([entry_of("binance", answer)], exchange="binance")
        assert (result.created, result.skipped) == (0, 1)

    @pytest.mark.parametrize("status", ["pending", "canceled", "failed"])
    def test_an_entry_that_is_not_completed_is_left_out(self, status: str) -> None:
        result = import_ledger([row(type="rebate", status=status)], exchange="okx")
        assert (recorded(), result.left_out) == ([], 1)

    @pytest.mark.parametrize(
        ("exchange", "entry_type", "info", "kind"),
        [
            ("kucoin", "fee", {"bizType": "Refunded Fees"}, "rebate"),
            ("kucoin", "fee", {"bizType": "KCS Pay Fees"}, "fee"),
            ("kucoin", "fee", {"businessType": "KCS_RETURNED_FEES"}, "rebate"),
            ("kucoin", "fee", {"businessType": "DEDUCTION_FEES"}, "fee"),
            ("kucoin", "fee", {"businessType": "FUNDING_FEE"}, "funding"),
            ("bybit", "cashback", {"type": "FEE_REFUND"}, "rebate"),
            ("bybit", "ADL", {"type": "ADL"}, None),
            ("binance", "cashback", {"incomeType": "WELCOME_BONUS"}, "payout"),
            ("xt", "fee", {"type": "FUND"}, "funding"),
            ("xt", "auto-deleveraging", {"type": "ADL"}, None),
            ("cryptocom", "rollback", {"journal_type": "ROLLBACK_WITHDRAW"}, None),
            ("delta", "pnl", {}, None),
            # a number says what it is at OKX alone
            ("deepcoin", "fee", {"type": "8"}, None),
            ("okx", "fee", {"type": "8", "balChg": "-1"}, "funding"),
            # "fund" is a type of Gate and XT, and a part of other words elsewhere
            ("bybit", "fee", {"type": "fund manager"}, None),
            ("bybit", "transaction", {"type": "TRANSFER_IN"}, "transfer"),
            ("bybit", "transaction", {"type": "INTEREST"}, "interest"),
            ("bybit", "transaction", {"type": "Deposit"}, None),
            ("bybit", "Prize", {"type": "BONUS"}, "payout"),
            ("bitget", "fee", {"businessType": "contract_settle_fee"}, "funding"),
            ("htx", "fee", {"transferType": "transact-fee"}, None),
            ("htx", "fee", {"transferType": "fee-deduction"}, None),
            ("htx", "fee", {"transferType": "withdraw-fee"}, "fee"),
            ("htx", "credit", {"transferType": "interest"}, "interest"),
            ("cryptocom", "fee", {"journal_type": "LIQUIDATION_FEE"}, "fee"),
            ("cryptocom", "fee", {"journal_type": "TRADE_FEE"}, None),
            ("cryptocom", "fee", {"journal_type": "FUNDING"}, "funding"),
            ("delta", "perpetual_futures_funding", {}, "funding"),
            ("hashkey", "unheard-of", None, "other"),
        ],
    )
    def test_what_the_exchange_calls_it_tells_what_ccxt_does_not(
        self, exchange: str, entry_type: str, info: Any, kind: str | None
    ) -> None:
        entry = row(type=entry_type, direction="in", info=info)
        import_ledger([entry], exchange=exchange)
        assert recorded() == ([(kind, "USDT", 1.5)] if kind else [])


class TestDepositsAndWithdrawals:
    def test_a_deposit_and_a_withdrawal_of_binance(self) -> None:
        deposit = {
            "id": "769800519366885376",
            "amount": "4500",
            "coin": "USDT",
            "network": "BSC",
            "status": 1,
            "address": "0xc9c923c87347ca0f3451d6d308ce84f691b9f501",
            "txId": "Internal transfer 51376627901",
            "insertTime": 1618394381000,
            "transferType": 1,
            "type": "deposit",
        }
        withdrawal = {
            "id": "69e53ad305124b96b43668ceab158a18",
            "amount": "28.75",
            "transactionFee": "0.25",
            "coin": "XRP",
            "status": 6,
            "address": "r3T75fuLjX51mmfb5Sk1kMNuhBgBPJsjza",
            "txId": "19A5B24ED0B697E4F0E9CD09FCB007170A605BC93C9280B9E6379C5E6EF0F65A",
            "applyTime": "2021-04-15 12:09:16",
            "network": "XRP",
            "type": "withdrawal",
        }
        api = ccxt.binance()
        rows = [api.parse_transaction(answer) for answer in (deposit, withdrawal)]
        for created in (2, 0):
            result = import_deposits_withdrawals(rows, exchange="binance")
            assert (result.created, result.skipped) == (created, 2 - created)
        assert recorded() == [
            ("deposit", "USDT", 4500.0),
            ("withdrawal", "XRP", -28.75),
            ("fee", "XRP", -0.25),
        ]
        fee = cash_flows.get_latest(kind="fee")[0]
        assert fee.exchange_flow_id == "fee:withdrawal:69e53ad305124b96b43668ceab158a18"

    def test_a_deposit_and_a_withdrawal_of_okx_may_have_one_number(self) -> None:
        shared = {"from": "13", "to": "0xA4", "ts": "1597026383085", "state": "2"}
        withdrawal = shared | {"amt": "0.094", "wdId": "4703879", "fee": "0.01", "ccy": "ETH"}
        deposit = shared | {"amt": "0.0104", "depId": "4703879", "ccy": "BTC", "txId": "1915737_3"}
        rows = [ccxt.okx().parse_transaction(answer) for answer in (withdrawal, deposit)]
        assert import_deposits_withdrawals(rows, exchange="okx").created == 2
        assert sorted(recorded()) == [
            ("deposit", "BTC", 0.0104),
            ("fee", "ETH", -0.01),
            ("withdrawal", "ETH", -0.094),
        ]

    @pytest.mark.parametrize("status", [None, "pending", "failed", "canceled"])
    def test_only_completed_ones_count(self, status: str | None) -> None:
        pending = row(type="deposit", status=status)
        result = import_deposits_withdrawals([pending], exchange="okx")
        assert (result.created, result.left_out, recorded()) == (0, 1, [])
        result = import_deposits_withdrawals([pending | {"status": "ok"}], exchange="okx")
        assert (result.created, recorded()) == (1, [("deposit", "USDT", 1.5)])

    def test_the_type_and_not_the_sign_says_the_direction(self) -> None:
        rows = [
            row(type="withdrawal", status="ok", amount=amount, id=f"{amount}") for amount in (2, -3)
        ]
        import_deposits_withdrawals(rows, exchange="okx")
        assert recorded() == [("withdrawal", "USDT", -2.0), ("withdrawal", "USDT", -3.0)]

    def test_another_type_is_rejected(self) -> None:
        [rejected] = import_deposits_withdrawals([row(type="x")], exchange="okx").rejected
        assert rejected.reason == "type: 'x' is neither 'deposit' nor 'withdrawal'"


IMPORTS = [import_funding, import_ledger, import_deposits_withdrawals]


@pytest.mark.parametrize("imported", IMPORTS)
class TestEveryImport:
    def test_any_number_of_rows_from_a_generator(self, imported: Callable[..., Any]) -> None:
        shared = {"type": "deposit" if imported is import_deposits_withdrawals else "rebate"}
        rows = (row(id=str(n), status="ok", **shared) for n in range(1234))
        assert imported(rows, exchange="okx").created == 1234

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ({"timestamp": None}, "timestamp: neither None nor datetime None is a time"),
            ({"amount": None}, "amount: None is not a number"),
            ({"amount": "much"}, "amount: 'much' is not a number"),
            ({"amount": "1_000"}, "amount: '1_000' is not a number"),
            ({"timestamp": True}, "timestamp: neither True nor datetime None is a time"),
            ({"currency": None, "code": None}, "currency: None is not allowed; pass a value"),
        ],
    )
    def test_a_row_that_cannot_be_recorded_is_rejected(
        self, imported: Callable[..., Any], values: dict[str, Any], reason: str
    ) -> None:
        type_ = "deposit" if imported is import_deposits_withdrawals else "rebate"
        good, bad = (row(id=n, type=type_, status="ok") for n in "12")
        result = imported([good, bad | values, "x"], exchange="okx")
        assert (result.created, result.rejected_count) == (1, 2)
        assert [issue.index for issue in result.rejected] == [1, 2]
        assert [issue.reason for issue in result.rejected] == [reason, "'x' is not a row of ccxt"]

    @pytest.mark.parametrize("rows", [{}, "rows", 5, None])
    def test_an_argument_that_is_no_list_is_rejected(
        self, imported: Callable[..., Any], rows: Any
    ) -> None:
        with pytest.raises(ValidationError, match="is not a list of rows of ccxt"):
            imported(rows, exchange="okx")

    @pytest.mark.parametrize("exchange", ["", None, "x" * 33])
    def test_an_invalid_exchange_is_rejected(
        self, imported: Callable[..., Any], exchange: Any
    ) -> None:
        with pytest.raises(ValidationError, match="exchange: "):
            imported([row()], exchange=exchange)


# --- rows that belong together, and rows that come twice ----------------------------------------

FUNDING_ENTRY = row(
    type="fee", direction="out", symbol="BTC/USDT:USDT", info={"type": "8", "balChg": "-1.5"}
)


@pytest.mark.parametrize("ledger_first", [False, True])
def test_funding_of_ledger_and_history_has_its_symbol_in_any_order(ledger_first: bool) -> None:
    def import_both(entry: dict[str, Any]) -> None:
        steps = [
            lambda: import_ledger([entry], exchange="okx"),
            lambda: import_funding([row(symbol="BTC/USDT:USDT", amount=-1.5)], exchange="okx"),
        ]
        for step in steps if ledger_first else reversed(steps):
            step()

    import_both(FUNDING_ENTRY)
    import_both(FUNDING_ENTRY | {"symbol": None})
    [flow] = cash_flows.get_latest()
    assert (flow.symbol, flow.amount) == ("BTC/USDT:USDT", -1.5)


def test_funding_without_a_symbol_gets_it_from_a_later_import() -> None:
    import_ledger([FUNDING_ENTRY | {"symbol": None}], exchange="okx")
    assert [flow.symbol for flow in cash_flows.iterate()] == [None]
    result = import_funding([row(symbol="BTC/USDT:USDT", amount=-1.5)], exchange="okx")
    assert (result.created, result.skipped) == (0, 1)
    assert [flow.symbol for flow in cash_flows.iterate()] == ["BTC/USDT:USDT"]


@pytest.mark.parametrize("fee", [{"cost": 1, "currency": "X" * 30}, {"cost": float("inf")}])
def test_a_row_whose_fee_is_refused_is_not_recorded(fee: dict[str, Any]) -> None:
    rows = [row(type="withdrawal", status="ok", fee=fee), row(id="2", type="deposit", status="ok")]
    result = import_deposits_withdrawals(rows, exchange="okx")
    assert (result.created, result.rejected_count, result.rejected[0].index) == (1, 1, 0)
    assert recorded() == [("deposit", "USDT", 1.5)]


def test_a_number_too_large_for_a_float_rejects_its_row_alone() -> None:
    rows = [row(id=str(number), symbol="BTC/USDT:USDT") for number in range(3)]
    rows[1]["amount"] = 10**400
    result = import_funding(rows, exchange="okx")
    assert (result.created, [issue.index for issue in result.rejected]) == (2, [1])
