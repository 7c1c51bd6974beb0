"""The migrations of botmemory's schema; a released file never changes."""
