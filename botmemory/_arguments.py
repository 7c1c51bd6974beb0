"""What public functions raise when they are called with the wrong arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from .errors import BotMemoryError, ValidationError, show

P = ParamSpec("P")
R = TypeVar("R")


def checked_call(
    function: Callable[P, R], error: type[BotMemoryError] = ValidationError
) -> Callable[P, R]:
    """Make a function raise `error`, which names the argument, for a wrong argument list.

    A correct call costs one frame: nothing is inspected before Python raises TypeError.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except TypeError as type_error:
            # without a deeper frame the function did not run: its argument list was wrong
            if type_error.__traceback__ is None or type_error.__traceback__.tb_next is not None:
                raise
            raise error(_explain(function, args, kwargs, type_error)) from None

    return call


def from_caller(callback: Callable[P, R]) -> Callable[P, R]:
    """Mark the errors of a callback as the caller's, so that they are not translated."""

    @wraps(callback)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return callback(*args, **kwargs)
        except Exception as error:
            error.raised_by_caller = True  # type: ignore[attr-defined]
            raise

    return call


def is_from_caller(error: BaseException) -> bool:
    """Return whether a callback wrapped by `from_caller` raised the error."""
    return getattr(error, "raised_by_caller", False)


def suggestion(name: str, known: list[str]) -> str:
    """Return " (did you mean 'x'?)" for the known name closest to a misspelt one, or ""."""
    import difflib  # imported late, as inspect below, because only errors need them

    matches = difflib.get_close_matches(name, known, 1)
    return f" (did you mean '{matches[0]}'?)" if matches else ""


def _explain(
    function: Callable[..., object],
    args: tuple[object, ...],
    kwargs: dict[str, object],
    type_error: TypeError,
) -> str:
    import inspect

    *_, package, module = function.__module__.split(".")
    prefix = f"{module}." if package == "repositories" else ""
    name = f"{prefix}{function.__name__}()"
    parameters = inspect.signature(function).parameters
    known = list(parameters)
    for keyword, value in kwargs.items():
        if keyword not in parameters:
            is_url = isinstance(value, str) and "://" in value  # it may have a password
            return (
                f"{keyword}: {name} takes no such argument{suggestion(keyword, known)}; "
                f"got {'a URL' if is_url else show(value)}, it takes {', '.join(known)}"
            )
    positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    if len(args) > len(positional):
        return (
            f"{name} takes {len(positional)} arguments by position, got {len(args)}; "
            f"pass the others by name: {', '.join(known)}"
        )
    passed = {*kwargs, *positional[: len(args)]}
    missing = [p.name for p in parameters.values() if p.default is p.empty and p.name not in passed]
    if missing:
        return f"{missing[0]}: {name} needs {', '.join(missing)}"
    return f"{name}: {type_error}"
