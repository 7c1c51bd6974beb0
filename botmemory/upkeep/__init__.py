"""Back up, check, copy and prune a database."""

from . import backup, check, prune

__all__ = ["backup", "check", "prune"]
