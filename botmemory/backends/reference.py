"""A foreign key, as the database itself has it."""

from __future__ import annotations

from typing import NamedTuple


class Reference(NamedTuple):
    """A column whose values are those of a column of another table.

    Attributes:
        table: The table with the foreign key.
        column: Its column.
        referred_column: The column that it refers to.
        on_delete: What happens to a row when the one that it refers to is deleted: "SET NULL",
            "CASCADE", ...
        schema: The schema of the table; None for the one that is used.
    """

    table: str
    column: str
    referred_column: str
    on_delete: str
    schema: str | None = None
