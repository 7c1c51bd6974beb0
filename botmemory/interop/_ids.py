"""The ids and names that exchanges give, as other programs hand them on."""

from __future__ import annotations

from decimal import Decimal
from numbers import Integral, Real
from typing import Any, cast

from .._values import plain_text
from ..errors import ValidationError, show
from ..models import CashFlow, Trade
from ..queries import read

# what data frames and spreadsheets have in place of an id
NO_IDS = frozenset({"", "na", "n/a", "nan", "nat", "none", "null", "<na>"})
LARGEST_EXACT = 2**53  # a larger whole float may have lost digits


def text_of_id(field: str, value: object) -> str:
    """Return an id as text, or "" if there is none.

    A float that is a whole number is that number, as a data frame has ids in a column with gaps.

    Raises:
        ValidationError: It is no id, such as 1.5 or True.
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (Real, Decimal)) and not isinstance(value, bool):
        if value != value:  # NaN
            return ""
        number = float(value)
        if not number.is_integer() or abs(number) > LARGEST_EXACT:
            raise ValidationError(
                f"{field}: {show(value)} is no id; read ids as text or whole numbers", field=field
            )
        return str(int(number))
    if isinstance(value, bool):
        raise ValidationError(f"{field}: {show(value)} is no id", field=field)
    text = plain_text(value) if isinstance(value, str) else str(value)
    return "" if text.strip().lower() in NO_IDS else text


def checked_names(exchange: str, strategy: str | None) -> str:
    """Return the name of an exchange as it is recorded, if it is, whatever its case.

    Raises:
        ValidationError: No row can have such a name, or such a strategy.
    """
    exchange_field, strategy_field = cast("Any", Trade.exchange), cast("Any", Trade.strategy)
    name: str = exchange_field.clean(exchange)
    if strategy is not None:
        strategy_field.clean(strategy)
    return recorded_name(name)


def recorded_name(exchange: str) -> str:
    """Return the name of an exchange as it is recorded, if it is, whatever its case."""
    recorded = {
        str(each)
        for model in (Trade, CashFlow)
        for each in read.distinct(model, "exchange", {})
        if each is not None
    }
    same = [each for each in sorted(recorded) if each.lower() == exchange.lower()]
    return exchange if exchange in recorded or not same else same[0]
