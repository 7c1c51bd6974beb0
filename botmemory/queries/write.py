"""What the functions of every table share: checking values and writing rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from itertools import islice
from typing import Any, ParamSpec, TypeVar

import peewee
from peewee import SQL

from .._arguments import suggestion
from ..backends.peewee_internals import ROW_ATTRIBUTES, assigned_names, new_row, values_of
from ..database import db, session_scope
from ..errors import (
    DuplicateError,
    NotFoundError,
    ValidationError,
    show,
)
from ..models import BaseModel, clean_field
from .compiled import Param, compiled

P = ParamSpec("P")
R = TypeVar("R")
Row = TypeVar("Row", bound=BaseModel)

MOST_NULLABLE = 8  # fields: at most 256 statements for one table
ROWS_PER_CHUNK = 5000  # stored at once, or singly to say which one the database refuses


# --- checking -------------------------------------------------------------------------------


def prepare(model: type[Row], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return one value for every field, checked and with the defaults filled in."""
    fields = model._meta.fields
    if not values.keys() <= fields.keys():
        for name, value in values.items():
            if name not in fields:
                refuse_name(model, name, value)
    ready, get = {}, values.get
    for name, check, absent in _checks(model):
        value = get(name)
        if value is not None:
            ready[name] = check(value)
        elif absent is not _given_by_database:
            ready[name] = absent()
    return ready


def check(field: Any, value: Any) -> Any:
    """Return a checked value; a row stays the row, so that a reference to it needs no look-up."""
    cleaned = clean_field(field, value)
    return value if isinstance(value, BaseModel) else cleaned


def _given_by_database() -> None:
    """Stand for an id that the database counts."""


def _none() -> None:
    return None


@cache
def _checks(
    model: type[BaseModel],
) -> list[tuple[str, Callable[[Any], Any], Callable[[], Any]]]:
    """Return for each field what checks a value, and what returns one where none is given."""
    found = []
    fields: list[Any] = model._meta.sorted_fields
    for field in fields:
        plain = field not in model._meta.refs and hasattr(field, "clean")
        if callable(field.default):
            absent = field.default
        elif field.default is not None:
            absent = partial(_same, field.default)
        elif field.auto_increment:
            absent = _given_by_database
        else:
            absent = _none if field.null else partial(check, field, None)  # which refuses it
        found.append((field.name, field.clean if plain else partial(check, field), absent))
    return found


def _same(value: Any) -> Any:
    return value


def required(name: str, value: Any) -> Any:
    """Return an argument that may not be None."""
    if value is None:
        raise ValidationError(f"{name}: None is not allowed; pass a value", field=name)
    return value


def key_of(model: type[BaseModel]) -> Any:
    return model._meta.primary_key


def refuse_name(model: type[BaseModel], key: object, value: object) -> None:
    known = model._meta.sorted_field_names
    name = key if isinstance(key, str) else show(key)  # csv.DictReader: None, in a line too long
    raise ValidationError(
        f"{name}: a {model.__name__} has no such field{suggestion(name, known)}; "
        f"got {show(value)}, it has {', '.join(known)}",
        field=name,
    )


def require(model: type[Row], row: Row) -> None:
    """Refuse what is not a row of this table."""
    if not isinstance(row, model):
        name = model.__name__
        raise ValidationError(f"{name.lower()}: {show(row)} is not a {name}", field=name.lower())


# --- writing --------------------------------------------------------------------------------


class _NotAllStoredError(Exception):
    pass


@compiled
def insert_query(model: type[BaseModel], names: tuple[str, ...]) -> Any:
    # not by way of an error: PostgreSQL gives up a whole transaction after one
    return model.insert(_row(model, names)).on_conflict(action="nothing")


@compiled
def _insert_counted(model: type[BaseModel], names: tuple[str, ...]) -> Any:
    return model.insert(_row(model, names))


def _row(model: type[BaseModel], names: tuple[str, ...]) -> dict[Any, Any]:
    """Return what to insert: values for the fields that are named, NULL for the others."""
    return {
        field: Param(name, field) if name in names else SQL("NULL")
        for name, field in model._meta.fields.items()
        if name in names or not field.auto_increment
    }


@cache
def _has_few_nullable(model: type[BaseModel]) -> bool:
    """Return whether an INSERT says NULL where a row has None, which sqlite3 is slow to bind.

    Each set of such fields makes another statement to keep, so not where there may be many.
    """
    return len([field for field in model._meta.sorted_fields if field.null]) <= MOST_NULLABLE


def _given(model: type[BaseModel], values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the values that the INSERT of a row is given."""
    if _has_few_nullable(model):
        return tuple([name for name, value in values.items() if value is not None])
    return tuple(values)


def insert_autoincrement(model: type[Row], values: dict[str, Any]) -> Row:
    """Store one prepared row and return it with the id the database gave it."""
    query = _insert_counted(model, _given(model, values))
    insert = db.current().insert_autoincrement
    counted = _write(model, _refers(model, values), insert, query.sql, query.bind(values))
    return _stored(model, {key_of(model).name: counted, **values})


def insert_if_new(model: type[Row], values: dict[str, Any]) -> Row | None:
    """Store one prepared row and return it; None when a row with its keys already exists."""
    query = insert_query(model, _given(model, values))
    insert = db.current().insert_row
    stored = _write(model, _refers(model, values), insert, query.sql, query.bind(values))
    return _stored(model, values) if stored else None


def _refers(model: type[BaseModel], values: dict[str, Any]) -> bool:
    """Return whether a checked row refers to another: all that the database can still refuse."""
    for field in model._meta.refs:  # noqa: SIM110  (half the time of any())
        if values[field.name] is not None:
            return True
    return False


def _stored(model: type[Row], values: dict[str, Any]) -> Row:
    """Return the model of a row that was stored; a row it refers to needs no look-up."""
    related: dict[str, Any] = {}
    for field in model._meta.refs:
        if isinstance(row := values[field.name], BaseModel):
            values[field.name], related[field.name] = row.get_id(), row
    return new_row(model, values, related)


def insert_many(
    model: type[Row],
    rows: Iterable[Mapping[str, Any]],
    prepare_one: Callable[[Mapping[str, Any]], dict[str, Any]],
    insert_one: Callable[[dict[str, Any]], object],
) -> int:
    """Store rows in one transaction, all or none, and return how many there were.

    Where the database refuses a chunk, its rows are stored singly to say which one it was.
    """
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
        raise ValidationError(f"rows: {show(rows)} is not a series of mappings", field="rows")

    def checked(index: int, row: object) -> dict[str, Any]:
        try:
            if type(row) is not dict and not isinstance(row, Mapping):  # the first is quicker
                raise ValidationError(f"{show(row)} is not a mapping of field names")
            return prepare_one(row)
        except ValidationError as error:
            _locate(error, index)
            raise

    numbered = enumerate(rows)
    count = 0
    chunk = list(islice(numbered, ROWS_PER_CHUNK))  # no lock yet: their source may be slow
    with session_scope():
        while chunk:
            if not stored_at_once(model, chunk, checked):
                for index, row in chunk:
                    values = checked(index, row)
                    try:
                        insert_one(values)
                    except (ValidationError, DuplicateError) as error:
                        _locate(error, index)
                        raise
            count += len(chunk)
            chunk = list(islice(numbered, ROWS_PER_CHUNK))
    return count


def stored_at_once(
    model: type[BaseModel],
    chunk: list[tuple[int, Mapping[str, Any]]],
    checked: Callable[[int, object], dict[str, Any]],
) -> bool:
    """Store numbered rows, all or none, and return whether the database took them.

    Each is checked when the database asks for it: a server stores others meanwhile.
    """
    names = tuple(checked(*chunk[0]))
    query = insert_query(model, _given_by_some(model, names, chunk))

    def bound() -> Iterator[list[Any]]:
        for index, row in chunk:
            values = checked(index, row)
            if len(values) != len(names):  # some bring their key, some do not
                raise _NotAllStoredError
            try:
                row_values = query.bind(values)
            except ValidationError as error:
                _locate(error, index)
                raise
            yield row_values

    fields = [model._meta.fields[name] for name in query.names]
    try:
        with session_scope():
            if db.insert_rows(query.sql, bound(), fields) < len(chunk):
                raise _NotAllStoredError
    except (_NotAllStoredError, peewee.IntegrityError, peewee.DataError):
        return False
    return True


def _given_by_some(
    model: type[BaseModel], names: tuple[str, ...], chunk: list[tuple[int, Mapping[str, Any]]]
) -> tuple[str, ...]:
    """Return the names of which some row may have a value: it is in the row, or has a default."""
    if not (db.null_in_sql and _has_few_nullable(model)):
        return names
    if not all(type(row) is dict for _, row in chunk):  # another mapping may find what it hides
        return names
    named: set[str] = set().union(*(row for _, row in chunk))
    fields = model._meta.fields
    return tuple([name for name in names if name in named or fields[name].default is not None])


def _locate(error: ValidationError | DuplicateError, index: int) -> None:
    """Say in the message which of several rows was refused."""
    error.args = (f"rows[{index}]: {error}",)


def update(row: Row, changes: Mapping[str, Any]) -> None:
    """Write the named fields and those assigned on `row` since it was loaded, and no others."""
    model = type(row)
    key = key_of(model).name
    for name in vars(row).keys() - ROW_ATTRIBUTES:
        refuse_name(model, name, getattr(row, name))
    loaded = values_of(row)
    values = {name: loaded[name] for name in assigned_names(row)} | dict(changes)
    for name, value in values.items():
        if name not in model._meta.fields:
            refuse_name(model, name, value)
        if name == key:
            raise ValidationError(f"{key}: cannot be changed; got {show(value)}", field=key)
    if not values:
        name = model.__name__.lower()
        raise ValidationError(
            f"nothing to change; name a field, as in update({name}, strategy='a')"
        )
    ready = {name: check(model._meta.fields[name], value) for name, value in values.items()}
    query = model.update(ready).where(key_of(model) == row.get_id())
    if not _write(model, True, query.execute):
        raise _gone(row)
    for name, value in ready.items():
        setattr(row, name, value)
    assigned_names(row).clear()


def delete(row: BaseModel) -> None:
    """Delete one row; raise `NotFoundError` if it is gone already."""
    model = type(row)
    if not model.delete().where(key_of(model) == row.get_id()).execute():
        raise _gone(row)


def _gone(row: BaseModel) -> NotFoundError:
    return NotFoundError(
        f"{type(row).__name__} {row.get_id()} is not in {db.config.label}: deleted, or never stored"
    )


def _write(
    model: type[BaseModel],
    in_statement: bool,
    write: Callable[P, R],
    *args: P.args,
    **kwargs: P.kwargs,
) -> R:
    """Write, and raise a violated constraint as the error the caller knows.

    Where `in_statement`, a refused write alone is rolled back, not its transaction. That costs a
    savepoint on a server, so a row that cannot violate a constraint is written without.
    """
    try:
        if not in_statement:
            return write(*args, **kwargs)
        with db.current().statement():
            return write(*args, **kwargs)
    except (peewee.IntegrityError, peewee.DataError) as error:
        raise constraint_error(model, error) from error


def constraint_error(model: type[BaseModel], error: peewee.PeeweeException) -> Exception:
    kind = db.violated_constraint(error)
    if kind == "reference":
        names = [
            f"{field.name}: there is no such {parent.__name__}"
            for field, parent in model._meta.refs.items()
        ]
        return ValidationError(
            f"{', '.join(names)}; record it first", field=names[0].partition(":")[0]
        )
    if kind == "unique":
        return DuplicateError(f"a {model.__name__} with these keys already exists")
    return ValidationError(f"it violates a constraint: {error}")
