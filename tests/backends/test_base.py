"""Each backend has the members that the interface in backends/base.py describes."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from inspect import Parameter
from typing import Any

import pytest

from botmemory import Config
from botmemory.backends import base
from botmemory.backends.base import Backend
from botmemory.backends.server.backend import PostgresBackend
from botmemory.backends.sqlite.backend import SqliteBackend

BACKENDS = {
    SqliteBackend: ":memory:",
    PostgresBackend: "postgresql://localhost/none",
}
NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def members() -> Iterator[tuple[str, str | None]]:
    """Yield the members of the interface with their docstrings."""
    tree = ast.parse(inspect.getsource(base))
    [interface] = [
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Backend"
    ]
    for node, following in zip(interface.body, [*interface.body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef):
            yield node.name, ast.get_docstring(node)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            yield node.target.id, following.value.value if is_text else None  # type: ignore[union-attr]


MEMBERS = dict(members())
METHODS = [name for name in MEMBERS if inspect.isfunction(vars(Backend).get(name))]


def parameters(function: Any) -> list[Parameter]:
    return [p for p in inspect.signature(function).parameters.values() if p.name != "self"]


def test_interface_has_members() -> None:
    assert {"config", "open", "atomic", "fetch_all", "scratch", "param"} <= MEMBERS.keys()
    assert len(METHODS) > 40


@pytest.mark.parametrize("name", MEMBERS)
def test_member_has_a_docstring(name: str) -> None:
    text = MEMBERS[name]
    assert text
    assert text.partition("\n")[0].endswith((".", ":"))


@pytest.mark.parametrize("kind", BACKENDS)
def test_backend_has_each_member(kind: Any) -> None:
    database = kind(Config(BACKENDS[kind]))
    assert [name for name in MEMBERS if not hasattr(database, name)] == []


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", BACKENDS)
def test_method_takes_the_parameters_of_the_interface(kind: Any, name: str) -> None:
    """A method of Peewee may have more, which are optional."""
    expected = {p.name: (p.kind, p.default) for p in parameters(getattr(Backend, name))}
    method = getattr(kind(Config(BACKENDS[kind])), name)
    actual = {p.name: (p.kind, p.default) for p in parameters(method) if p.kind in NAMED}
    assert list(actual.items())[: len(expected)] == list(expected.items())
    more = parameters(method)[len(expected) :]
    assert not more or not method.__module__.startswith("botmemory")
    assert all(p.kind not in NAMED or p.default is not Parameter.empty for p in more)
