"""Peewee's migrator for SQLite, on which a migration is one transaction and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from playhouse.migrate import SqliteMigrator as PeeweeMigrator

R = TypeVar("R")


class SqliteMigrator(PeeweeMigrator):  # type: ignore[misc]
    """Peewee's migrator, which puts nothing off: there is one writer at a time."""

    def repeat(self, change: Callable[[], R]) -> R:
        return change()

    def put_off(self) -> list[str]:
        return []

    def run_put_off(self, statement: str, record: Callable[[], None]) -> None:
        raise NotImplementedError

    def discard(self, statements: list[str]) -> None:
        raise NotImplementedError
