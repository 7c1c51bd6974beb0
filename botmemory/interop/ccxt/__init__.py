"""Import of what ccxt returns for any exchange.

ccxt itself is not needed: rows are mappings, as its manual describes them.
"""

from ._trades import import_trades

__all__ = ["import_trades"]
