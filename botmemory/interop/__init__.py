"""Import and export of rows: a module for each format or program."""

from ._conflicts import OnConflict
from ._result import Conflict, ImportResult, RowIssue

__all__ = ["Conflict", "ImportResult", "OnConflict", "RowIssue"]
