"""Import and export of rows: a module for each format or program."""

from ._result import ImportResult, RowIssue

__all__ = ["ImportResult", "RowIssue"]
