"""The report as a live page, and a JSON API beside it: a small ASGI application."""

from __future__ import annotations

from ._app import app

__all__ = ["app"]
