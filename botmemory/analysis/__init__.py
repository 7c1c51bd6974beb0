"""Analysis of the recorded trades: what they have earned, and which signals led to them."""

from . import attribution, performance

__all__ = ["attribution", "performance"]
