"""Trades from elsewhere: a module for each outside format."""

from ._result import ImportResult, RowIssue

__all__ = ["ImportResult", "RowIssue"]
