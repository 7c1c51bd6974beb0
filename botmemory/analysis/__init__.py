"""Questions asked of the memory: what was earned, and which signals led to it."""

from . import performance

__all__ = ["performance"]
