"""Back up, check and copy a database."""

from . import backup, check

__all__ = ["backup", "check"]
