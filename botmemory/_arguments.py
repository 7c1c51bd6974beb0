"""The border of the public functions: what they raise when they are called wrongly."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from .errors import BotMemoryError, ValidationError, show

__all__ = ["checked_call", "from_caller", "is_from_caller", "suggestion"]

P = ParamSpec("P")
R = TypeVar("R")


def checked_call(
    function: Callable[P, R], error: type[BotMemoryError] = ValidationError
) -> Callable[P, R]:
    """Turn the TypeError of a wrong argument list into `error`, naming the argument.

    A correct call pays for one frame: nothing is inspected until Python itself has refused.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except TypeError as problem:
            # no deeper frame: the call was refused, the function never ran
            if problem.__traceback__ is None or problem.__traceback__.tb_next is not None:
                raise
            raise error(_explain(function, args, kwargs, problem)) from None

    return call


def from_caller(callback: Callable[P, R]) -> Callable[P, R]:
    """Return a function of the caller's whose errors no translation takes for its own."""

    @wraps(callback)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return callback(*args, **kwargs)
        except Exception as error:
            error.raised_by_caller = True  # type: ignore[attr-defined]
            raise

    return call


def is_from_caller(error: BaseException) -> bool:
    """Return whether a function raised it that went through `from_caller`."""
    return getattr(error, "raised_by_caller", False)


def suggestion(name: str, known: list[str]) -> str:
    """Return " (did you mean 'x'?)" for the known name nearest to a misspelt one, or ""."""
    import difflib  # late, as inspect below: a program that makes no mistakes needs neither

    near = difflib.get_close_matches(name, known, 1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _explain(
    function: Callable[..., object],
    args: tuple[object, ...],
    kwargs: dict[str, object],
    problem: TypeError,
) -> str:
    import inspect

    *_, package, module = function.__module__.split(".")
    prefix = f"{module}." if package == "repositories" else ""
    name = f"{prefix}{function.__name__}()"
    parameters = inspect.signature(function).parameters
    known = list(parameters)
    for given, value in kwargs.items():
        if given not in parameters:
            return (
                f"{given}: {name} takes no such argument{suggestion(given, known)}; "
                f"got {show(value)}, it takes {', '.join(known)}"
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
    return f"{name}: {problem}"
