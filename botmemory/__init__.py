"""Record and read a trading bot's trades, signals and cash flows in SQLite or PostgreSQL."""

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
from .models import BaseModel, CashFlow, OrderSide, Signal, Trade

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
