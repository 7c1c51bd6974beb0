"""Import of what ccxt returns for any exchange.

ccxt itself is not needed: rows are mappings, as its manual describes them.
"""

from ._cash_flows import import_deposits_withdrawals, import_funding, import_ledger
from ._trades import import_trades

__all__ = ["import_deposits_withdrawals", "import_funding", "import_ledger", "import_trades"]
