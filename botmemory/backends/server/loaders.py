"""Values of the server in binary form, which no setting of a session changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.adapt import AdaptersMap, Buffer, Loader

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_UNKNOWN = 0  # the type of which psycopg takes the loader for types that it does not know


def register_loaders(adapters: AdaptersMap) -> None:
    """Register the loaders of which psycopg's own would not do."""
    adapters.register_loader("timestamptz", _TimestampLoader)
    adapters.register_loader(_UNKNOWN, _UnknownLoader)


class _TimestampLoader(Loader):
    """Times in UTC: in the time zone of the session, some of the year 1 cannot be represented."""

    format = psycopg.pq.Format.BINARY

    def load(self, data: Buffer) -> datetime:
        microseconds = int.from_bytes(data, "big", signed=True)
        try:
            return _EPOCH + timedelta(microseconds=microseconds)
        except OverflowError:
            raise psycopg.DataError("a time is outside of the years 1 to 9999") from None


class _UnknownLoader(Loader):
    """Values of types that psycopg does not know: an enum of the server is its text."""

    format = psycopg.pq.Format.BINARY

    def load(self, data: Buffer) -> Any:
        try:
            return bytes(data).decode()
        except UnicodeDecodeError:
            return bytes(data)
