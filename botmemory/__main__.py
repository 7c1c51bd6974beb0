"""`python -m botmemory` is the `botmemory` command."""

from .cli import main

if __name__ == "__main__":
    main()
