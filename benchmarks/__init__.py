"""What botmemory costs, measured."""
