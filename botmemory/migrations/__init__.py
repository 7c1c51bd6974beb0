"""The schema of botmemory, step by step; each file is frozen once it is released."""
