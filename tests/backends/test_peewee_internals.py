"""Peewee's private names are used in one module, and each of them still exists in Peewee."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import peewee
import pytest
from playhouse import migrate, migrations, postgres_ext, shortcuts

import botmemory
from botmemory.backends.peewee_internals import FILL_ROW, NO_DEFAULTS, new_row
from botmemory.backends.server.backend import PostgresBackend
from botmemory.backends.sqlite.backend import SqliteBackend
from botmemory.models import BaseModel
from botmemory.schema.runner import SafeRunner

PACKAGE = Path(str(botmemory.__file__)).parent
MODULES = (peewee, migrate, migrations, postgres_ext, shortcuts)
INTERNALS = "backends/peewee_internals.py"
# the private names, and the one module that uses each
PLACES = {
    "__data__": INTERNALS,
    "__exception_wrapper__": INTERNALS,
    "__no_default__": INTERNALS,
    "__rel__": INTERNALS,
    "_ConnectionLocal": INTERNALS,
    "_adapter": INTERNALS,
    "_add_conn_hooks": INTERNALS,
    "_dirty": INTERNALS,
    "_execute_cursor": INTERNALS,
    "_get_cursor_wrapper": INTERNALS,
    "_lock": INTERNALS,
    "_log_query": INTERNALS,
    "_manual": INTERNALS,
    "_notify_hooks": INTERNALS,
    "_run": "schema/runner.py",
    "_set_server_version": INTERNALS,
    "_state": INTERNALS,
}
DOCUMENTED = {"_meta"}
# methods that any class may have; Peewee's own names of this form are in PLACES
SPECIAL = {name for name in dir(dict) + dir(type) + dir(Path) if name.endswith("__")} | {
    *(
        "__all__",
        "__del__",
        "__file__",
        "__weakref__",
        "__get__",
        "__getattr__",
        "__main__",
        "__name__",
    ),
    *("__set__", "__version__", "__call__", "__enter__", "__exit__", "__sql__"),
} - PLACES.keys()


def is_private(name: str) -> bool:
    return name.startswith("_") and name.strip("_") != "" and name not in SPECIAL | DOCUMENTED


def names_of(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the names that refer to a member of another object or module, and their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, ast.alias):
            yield node.name, node.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ("getattr", "hasattr", "setattr", "delattr"):
                for argument in node.args:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        yield argument.value, argument.lineno
        elif isinstance(node, ast.Constant) and node.value in PLACES:
            yield str(node.value), node.lineno
        elif isinstance(node, ast.ClassDef) and node.bases:
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and member.name in PLACES:
                    yield member.name, member.lineno


def definitions(tree: ast.AST) -> set[str]:
    """Return the private names that a module defines itself, for its own use."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def private_names_of_peewee() -> set[str]:
    trees = [ast.parse(inspect.getsource(module)) for module in MODULES]
    names = {name for tree in trees for name, _ in names_of(tree)}
    return {name for name in names.union(*map(definitions, trees)) if is_private(name)}


def uses(source: str, private: set[str]) -> list[tuple[str, int]]:
    """Return the private names of Peewee that a module uses or overrides, and their lines."""
    tree = ast.parse(source)
    own = definitions(tree) - PLACES.keys()
    return [(n, line) for n, line in names_of(tree) if n in private and n not in own]


@pytest.fixture(scope="module")
def private() -> set[str]:
    return private_names_of_peewee()


def test_private_names_of_peewee_are_used_in_one_place(private: set[str]) -> None:
    misplaced = [
        f"{file.relative_to(PACKAGE)}:{line}: {name}"
        for file in sorted(PACKAGE.rglob("*.py"))
        for name, line in uses(file.read_text(encoding="utf-8"), private)
        if PLACES.get(name) != file.relative_to(PACKAGE).as_posix()
    ]
    assert misplaced == []


def test_each_listed_name_is_used_and_exists_in_peewee(private: set[str]) -> None:
    code = re.findall(r"\w+", FILL_ROW)
    for name, place in PLACES.items():
        names = {used for used, _ in uses((PACKAGE / place).read_text(encoding="utf-8"), private)}
        assert name in names.union(code), f"{name} is not used in {place}, or not in Peewee"


@pytest.mark.parametrize(
    "line",
    [
        "from peewee import _atomic",
        "peewee._savepoint(database)",
        "database._attached",
        "getattr(database, '_state')",
        "row.__data__ = {}",
        "names = {'_dirty'}",
        "class Backend(peewee.Database):\n    def _execute_cursor(self): pass",
    ],
)
def test_a_use_is_found(line: str, private: set[str]) -> None:
    assert uses(line, private)


@pytest.mark.parametrize("kind", [SqliteBackend, PostgresBackend, BaseModel, SafeRunner])
def test_no_private_method_of_peewee_is_overridden_by_chance(kind: type) -> None:
    ours = {cls for cls in kind.__mro__ if cls.__module__.startswith("botmemory.")}
    theirs = {name for cls in set(kind.__mro__) - ours - {object} for name in vars(cls)}
    names = {name for cls in ours for name in vars(cls) if is_private(name)}
    assert names & theirs <= PLACES.keys()


def test_row_attributes_are_those_of_an_instance() -> None:
    made = new_row(botmemory.Trade, {}, {})
    assert vars(made) == vars(botmemory.Trade(**{NO_DEFAULTS: True}))
