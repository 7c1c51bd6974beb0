"""Print what NautilusTrader says of fills, as JSON; run it where NautilusTrader is installed.

Each history is a backtest: its fills are market orders at a simulated exchange, whose bid and ask
are the price of the fill. One that goes beyond flat is split by its engine, which closes the
position and opens another one. A history with `"hedging": true` has a position of its own for every
entry, and each exit closes the same part of all of them.
"""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from fractions import Fraction
from operator import truediv
from typing import Any

from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig, RiskEngineConfig
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import AccountType, CurrencyType, OmsType, OrderSide
from nautilus_trader.model.events import OrderFilled, PositionClosed
from nautilus_trader.model.identifiers import InstrumentId, PositionId, Symbol, Venue
from nautilus_trader.model.instruments import CryptoPerpetual
from nautilus_trader.model.objects import FIXED_PRECISION, Currency, Money, Price, Quantity
from nautilus_trader.model.position import Position
from nautilus_trader.trading.strategy import Strategy

VENUE = Venue("EXCHANGE")
PRICE_DIGITS, QUANTITY_DIGITS = 8, 12
HOUR = 3_600_000_000_000  # in nanoseconds


def currency(code: str) -> Currency:
    """Return a currency with the most digits there are, as PnL is rounded to those it has."""
    made = Currency(code, FIXED_PRECISION, 0, code, CurrencyType.CRYPTO)
    Currency.register(made, overwrite=True)
    return made


def instrument(history: dict[str, Any]) -> CryptoPerpetual:
    pair, _, settle = history["symbol"].partition(":")
    base, quote = (currency(code) for code in pair.split("/"))
    return CryptoPerpetual(
        instrument_id=InstrumentId(Symbol(pair.replace("/", "")), VENUE),
        raw_symbol=Symbol(pair.replace("/", "")),
        base_currency=base,
        quote_currency=quote,
        settlement_currency=currency(settle),
        is_inverse=settle == base.code,
        price_precision=PRICE_DIGITS,
        size_precision=QUANTITY_DIGITS,
        price_increment=price(Decimal(10) ** -PRICE_DIGITS),
        size_increment=quantity(Decimal(10) ** -QUANTITY_DIGITS),
        multiplier=Quantity.from_str(str(history["contract_size"])),
        maker_fee=history["fee_rate"],
        taker_fee=history["fee_rate"],
        ts_event=0,
        ts_init=0,
    )


def price(number: Decimal) -> Price:
    return Price.from_str(f"{number:.{PRICE_DIGITS}f}")


def quantity(number: Decimal) -> Quantity:
    return Quantity.from_str(f"{number:.{QUANTITY_DIGITS}f}")


class Trader(Strategy):
    """It sends the orders of one fill with each quote."""

    def __init__(self, traded: CryptoPerpetual, history: dict[str, Any]) -> None:
        super().__init__()
        self.traded, self.history = traded, history
        self.sent = 0
        self.fees = self.closed_pnl = Decimal(0)
        self.answers: list[dict[str, Any]] = []

    def on_start(self) -> None:
        self.subscribe_quote_ticks(self.traded.id)

    def on_quote_tick(self, tick: QuoteTick) -> None:
        if self.sent:
            self.answers.append(self.figures())  # the orders of the quote before are filled
        if self.sent < len(self.history["fills"]):
            for signed, position_id in self.orders(self.history["fills"][self.sent]):
                side = OrderSide.BUY if signed > 0 else OrderSide.SELL
                order = self.order_factory.market(self.traded.id, side, quantity(abs(signed)))
                self.submit_order(order, position_id=position_id)
            self.sent += 1

    def on_order_filled(self, event: OrderFilled) -> None:
        self.fees += event.commission.as_decimal()

    def on_position_closed(self, event: PositionClosed) -> None:
        # a position that takes the place of this one, after a flip too, starts with PnL 0
        self.closed_pnl += event.realized_pnl.as_decimal()

    def orders(self, fill: dict[str, Any]) -> list[tuple[Decimal, PositionId | None]]:
        """Return signed quantities, each with the position it is for."""
        signed = fill["quantity"] * (1 if fill["side"] == "buy" else -1)
        open_positions = self.cache.positions_open()
        held = sum((position.signed_decimal_qty() for position in open_positions), Decimal(0))
        if not self.history["hedging"] or held * signed >= 0:
            return [(signed, None)]
        part = min(Fraction(1), Fraction(-signed) / Fraction(held))
        orders = [
            (-position.signed_decimal_qty() * part.numerator / part.denominator, position.id)
            for position in open_positions
        ]
        rest = signed - sum(closing for closing, _ in orders)
        return [*orders, *([(rest, None)] if rest else [])]

    def figures(self) -> dict[str, Any]:
        open_positions = self.cache.positions_open()
        mark = price(self.history["fills"][self.sent - 1]["mark"])
        net = self.closed_pnl + sum(
            position.realized_pnl.as_decimal() for position in open_positions
        )
        return {
            "quantity": sum(position.signed_decimal_qty() for position in open_positions),
            "average_entry_price": average_entry_price(open_positions),
            # commissions are in the realized PnL there
            "realized_pnl": net + self.fees,
            "net_realized_pnl": net,
            "fees": self.fees,
            "value": sum(signed_value(position, mark) for position in open_positions),
            "unrealized": sum(
                position.unrealized_pnl(mark).as_decimal() for position in open_positions
            ),
        }


def average_entry_price(open_positions: list[Position]) -> float | None:
    """Return the price of one position, or the harmonic mean of several inverse ones."""
    if len(open_positions) < 2:
        return next((position.avg_px_open for position in open_positions), None)
    quantities = [float(position.quantity) for position in open_positions]
    prices = [position.avg_px_open for position in open_positions]
    return sum(quantities) / sum(map(truediv, quantities, prices))


def signed_value(position: Position, mark: Price) -> Decimal:
    """Return the value, which has no sign there, so that it is below 0 of a short position."""
    value: Decimal = position.notional_value(mark).as_decimal()
    return value if position.is_long else -value


def answers(history: dict[str, Any]) -> list[dict[str, Any]]:
    engine, strategy = backtest(history)
    engine.dispose()
    return strategy.answers


def backtest(history: dict[str, Any]) -> tuple[BacktestEngine, Trader]:
    """Return an engine that has run, and its strategy."""
    engine = BacktestEngine(
        BacktestEngineConfig(
            logging=LoggingConfig(bypass_logging=True),
            risk_engine=RiskEngineConfig(bypass=True),
            run_analysis=False,
        )
    )
    traded = instrument(history)
    engine.add_venue(
        venue=VENUE,
        oms_type=OmsType.HEDGING if history["hedging"] else OmsType.NETTING,
        account_type=AccountType.MARGIN,
        starting_balances=[Money(1_000_000, traded.settlement_currency)],
        frozen_account=True,  # it needs no margin
    )
    engine.add_instrument(traded)
    prices = [fill["price"] for fill in history["fills"]]
    size = quantity(Decimal(1_000_000_000))
    engine.add_data(
        [
            QuoteTick(traded.id, price(each), price(each), size, size, hour * HOUR, hour * HOUR)
            for hour, each in enumerate([*prices, prices[-1]], start=1)
        ]
    )
    trader = Trader(traded, history)
    engine.add_strategy(trader)
    engine.run()
    return engine, trader


if __name__ == "__main__":
    given = json.load(sys.stdin, parse_float=Decimal)
    answers_by_kind = {
        kind: [answers(history) for history in histories] for kind, histories in given.items()
    }
    json.dump(answers_by_kind, sys.stdout, default=float)
