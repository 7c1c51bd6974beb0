"""Keep the database well: copies of it, and a look at its health."""

from . import backup, check

__all__ = ["backup", "check"]
