"""Queries that repositories, analysis, import and copy share."""
