"""Plain functions that record and query rows, in one module for each subject."""

from . import positions, signals, trades

__all__ = ["positions", "signals", "trades"]
