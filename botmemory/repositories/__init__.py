"""Plain functions that record and answer, one module for each subject."""

from . import positions, signals, trades

__all__ = ["positions", "signals", "trades"]
