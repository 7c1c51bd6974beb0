"""Questions asked of the memory: what was earned, and which signals led to it."""

from . import attribution, performance

__all__ = ["attribution", "performance"]
