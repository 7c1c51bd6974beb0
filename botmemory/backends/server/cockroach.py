"""The CockroachDB backend: a distributed engine that speaks PostgreSQL's protocol."""

from __future__ import annotations

from playhouse import cockroachdb

from ...errors import StorageError
from .base import ServerMixin

__all__ = ["CockroachBackend"]


class CockroachBackend(ServerMixin, cockroachdb.CockroachDatabase):  # type: ignore[misc]
    """A CockroachDB cluster, opened as its config says.

    Its transactions are serializable by themselves: one that was outrun is undone with code
    40001, a `DatabaseBusyError`, and `run_transaction` repeats it.
    """

    def parameters(self) -> dict[str, str]:
        return {"user": "root", "port": "26257"} | super().parameters()

    def open(self) -> None:
        super().open()
        if (self.server_version or 0) < cockroachdb.NESTED_TX_MIN_VERSION:
            raise StorageError(
                f"{self.config.label}: the server is older than CockroachDB 20.1, which has no "
                "savepoints; use a newer one"
            )
