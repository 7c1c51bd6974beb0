"""Trades from elsewhere: a module for each outside format."""

from ._result import ImportResult, Noted

__all__ = ["ImportResult", "Noted"]
