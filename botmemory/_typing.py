"""What lets a module name types for the checker alone: importing `typing` takes a while.

Peewee does without it, and a program that imports both would wait for it on our account. What
users may ask for at run time (the fields of `Config`, the arguments of `init_db`) is resolvable
all the same.
"""

__all__ = ["TYPE_CHECKING"]

TYPE_CHECKING = False  # True for mypy and pyright, which know the name
