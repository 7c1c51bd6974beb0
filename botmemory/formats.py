"""Numbers as people read them, alike on the command line and in the report."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

MAX_PLACES = 8
SMALLEST, LARGEST = 1e-8, 1e15  # sizes that are written without an exponent
SMALL_PRICE = 1e-12


def places(amounts: Iterable[float | None]) -> int:
    """Return the decimal places that all amounts of a column get.

    2 are enough from 0.1 on; the smallest amount still has up to 3 significant digits, in at most 8
    places.
    """
    return max((_places(amount) for amount in amounts if amount is not None), default=2)


def _places(amount: float) -> int:
    if not SMALLEST <= abs(amount) < 0.1:
        return 2
    digits, _, exponent = f"{abs(amount):.2e}".partition("e")
    significant = len(digits.rstrip("0").replace(".", ""))
    return min(MAX_PLACES, max(2, significant - 1 - int(exponent)))


def amount(value: float, decimals: int | None = None, sign: str = "") -> str:
    """Format an amount of money or a ratio.

    Args:
        value: The amount; one that rounds to 0 has no minus.
        decimals: The decimal places of its column; None for as many as it needs alone.
        sign: `+` to write the sign of a positive amount, too.
    """
    if value and not SMALLEST <= abs(value) < LARGEST:
        return f"{value:{sign},.3g}"
    return f"{value:{sign}z,.{_places(value) if decimals is None else decimals}f}"


def number(value: float, sign: str = "", digits: int = 10) -> str:
    """Format a price or a quantity: `digits` significant ones, and every one before the point."""
    size = abs(value)
    if size and not SMALL_PRICE <= size < LARGEST:
        return f"{value:{sign},.{digits}g}"
    significant = max(digits, len(str(int(size))))
    return f"{Decimal(f'{value + 0.0:.{significant}g}'):{sign},f}"


def count(value: int) -> str:
    """Format a number of rows."""
    return f"{value:,}"


def counted(value: int, noun: str) -> str:
    """Format a number of rows with the noun for one of them."""
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"
