"""Record and read a trading bot's trades, signals, cash flows and state.

In one SQLite file, or on a PostgreSQL server.
"""

from ._version import __version__ as __version__
from .bootstrap import init_db
from .config import Config
from .database import close_db, db, get_db, run_transaction, session_scope
from .errors import (
    BotMemoryError,
    ConfigError,
    DatabaseBusyError,
    DuplicateError,
    NotFoundError,
    NotInitializedError,
    SchemaError,
    StorageError,
    ValidationError,
)
from .models import BaseModel, CashFlow, OrderSide, Signal, State, Trade

__all__ = [
    "BaseModel",
    "BotMemoryError",
    "CashFlow",
    "Config",
    "ConfigError",
    "DatabaseBusyError",
    "DuplicateError",
    "NotFoundError",
    "NotInitializedError",
    "OrderSide",
    "SchemaError",
    "Signal",
    "State",
    "StorageError",
    "Trade",
    "ValidationError",
    "close_db",
    "db",
    "get_db",
    "init_db",
    "run_transaction",
    "session_scope",
]
