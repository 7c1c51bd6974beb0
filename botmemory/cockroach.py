"""The CockroachDB backend: a distributed engine that speaks PostgreSQL's protocol."""

from __future__ import annotations

from playhouse.cockroachdb import PooledCockroachDatabase

from .server import ServerMixin

__all__ = ["CockroachBackend"]


class CockroachBackend(ServerMixin, PooledCockroachDatabase):  # type: ignore[misc]
    """A CockroachDB cluster, opened as its config says.

    Its transactions are serializable by themselves: one that was outrun is undone with code
    40001, a `DatabaseBusyError`, and `run_transaction` repeats it.
    """

    def parameters(self) -> dict[str, str]:
        return {"user": "root", "port": "26257"} | super().parameters()
