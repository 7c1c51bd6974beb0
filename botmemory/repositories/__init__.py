"""Plain functions that record and query rows, in one module for each subject."""

from . import cash_flows, positions, signals, state, trades

__all__ = ["cash_flows", "positions", "signals", "state", "trades"]
