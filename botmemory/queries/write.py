"""Validate values and write rows of any table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial, reduce
from itertools import islice
from operator import or_
from typing import Any, TypeVar, TypeVarTuple

import peewee
from peewee import SQL, Value

from ..backends.constraints import ForeignKeyError, UniqueConstraintError
from ..backends.keys import Keys, require_key
from ..backends.peewee_internals import initialized_row, new_row, values_of
from ..database import db, run_transaction, session_scope
from ..errors import ConfigError, DuplicateError, NotFoundError, ValidationError, show
from ..models import (
    KEY_FIELDS,
    BaseModel,
    Signal,
    Trade,
    clean_field,
    forget_changes,
    is_in_open_database,
    is_row,
    key_fields,
    key_of_row,
    missing_reference,
    naming_references,
    overrides,
    references_to,
    refuse_unknown_field,
    require_key_of,
)
from .compiled import Compiled, Param, compiled

Args = TypeVarTuple("Args")
R = TypeVar("R")
Row = TypeVar("Row", bound=BaseModel)

MAX_NULLABLE_FIELDS = 9  # in a model with an INSERT for each set of them: at most 512 statements
ROWS_PER_CHUNK = 5000  # inserted as one batch, or one by one where the batch fails


# --- validating -----------------------------------------------------------------------------


def prepare(model: type[Row], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of all fields, validated and with defaults."""
    fields = model._meta.fields
    if not values.keys() <= fields.keys():
        for name, value in values.items():
            if name not in fields:
                refuse_unknown_field(model, name, value)
    row, get = {}, values.get
    for name, clean, default in _converters(model):
        value = get(name)
        if value is not None:
            row[name] = clean(value)
        elif default is None:
            row[name] = None
        elif default is not _autoincrement:
            row[name] = default()
    return row


def _clean(field: Any, value: Any) -> Any:
    """Return a validated value; a row is returned as it is, so that it need not be loaded again."""
    cleaned = clean_field(field, value)
    return value if isinstance(value, BaseModel) else cleaned


def _autoincrement() -> None:
    """Mark a field whose value the database assigns."""


@cache
def _converters(
    model: type[BaseModel],
) -> list[tuple[str, Callable[[Any], Any], Callable[[], Any] | None]]:
    """Return the name of each field, the function that validates a value, and the default."""
    converters = []
    fields: list[Any] = model._meta.sorted_fields
    for field in fields:
        has_clean = field not in model._meta.refs and hasattr(field, "clean")
        if field.default is not None:
            default = (
                field.default if callable(field.default) else partial(_identity, field.default)
            )
            if not hasattr(field, "clean"):  # such as the current time, of which it keeps seconds
                default = partial(_clean_default, field, default)
        elif field.auto_increment:
            default = _autoincrement
        else:
            default = None if field.null else partial(_clean, field, None)  # which raises
        clean = field.clean if has_clean else partial(_clean, field)
        converters.append((field.name, clean, default))
    return converters


def _identity(value: Any) -> Any:
    return value


def _clean_default(field: Any, default: Callable[[], Any]) -> Any:
    return _clean(field, default())


def require_open_database(model: type[BaseModel]) -> None:
    """Refuse a model that is bound to another database than the open one."""
    if not is_in_open_database(model):
        name = model.__name__
        raise ConfigError(
            f"{name}: it is bound to another database than that of init_db(); read with Peewee, as "
            f"in {name}.select(), or leave bind_ctx()"
        )


def checked_model(model: type[Row]) -> type[Row]:
    """Return a model with a primary key; raise `ValidationError` for anything else."""
    if not isinstance(model, type) or not issubclass(model, BaseModel) or model is BaseModel:
        raise ValidationError(
            f"model: {show(model)} is not a model; pass a class on botmemory's BaseModel",
            field="model",
        )
    if not model._meta.primary_key:
        raise ValidationError(f"model: {model.__name__} has no primary key", field="model")
    return model


def required(name: str, value: Any) -> Any:
    """Return an argument that must not be None."""
    if value is None:
        raise ValidationError(f"{name}: None is not allowed; pass a value", field=name)
    return value


def key_of(model: type[BaseModel]) -> Any:
    return model._meta.primary_key


def key_value(model: type[BaseModel], values: Mapping[str, Any]) -> Any:
    """Return the key in a row's values; a tuple for a composite one."""
    parts = tuple(values[field.name] for field in key_fields(model))
    return parts[0] if len(parts) == 1 else parts


def _require_row(model: type[BaseModel], row: BaseModel) -> None:
    """Raise `ValidationError` for a value that is not a row of this model."""
    if not isinstance(row, model):
        name = _argument_name(model)
        raise ValidationError(f"{name}: {show(row)} is not a {model.__name__}", field=name)


def _argument_name(model: type[BaseModel]) -> str:
    """Return the name of a function's argument for a row of a model."""
    return str(peewee.make_snake_case(model.__name__))  # type: ignore[attr-defined]


# --- writing --------------------------------------------------------------------------------


class _NotAllStoredError(Exception):
    pass


@compiled
def insert_query(
    model: type[BaseModel], names: tuple[str, ...], skips_duplicates: bool = True, /
) -> Any:
    """Return an INSERT with parameters for the named fields and NULL for the others."""
    values = {
        field: Param(name, field) if name in names else SQL("NULL")
        for name, field in model._meta.fields.items()
        if name in names or not field.auto_increment
    }
    query: Any = model.insert(values)
    # without an error for a duplicate, because PostgreSQL aborts the transaction after any error
    return query.on_conflict(action="nothing") if skips_duplicates else query


@cache
def _has_few_nullable(model: type[BaseModel]) -> bool:
    """Return whether an INSERT has the literal NULL for None, which sqlite3 is slow to bind.

    Each set of fields that are None is another statement in the cache.
    """
    nullable = [field for field in model._meta.sorted_fields if field.null]
    return len(nullable) <= MAX_NULLABLE_FIELDS


def _names_to_bind(model: type[BaseModel], values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the fields for which the INSERT of a row has a parameter."""
    if _has_few_nullable(model):
        return tuple([name for name, value in values.items() if value is not None])
    return tuple(values)


def calls_save(model: type[BaseModel]) -> bool:
    """Return whether a row is written by its own `save()`.

    Such a model has one of its own, or is bound to another database than the open one.
    """
    return overrides(model, "save") or not is_in_open_database(model)


def save(model: type[Row], values: dict[str, Any]) -> Row:
    """Insert one prepared row by the `save()` of its model, and return it."""
    row = model(**values)
    row.save(force_insert=True)
    return row


def insert_autoincrement(model: type[Row], values: dict[str, Any]) -> Row:
    """Insert one prepared row and return it with the id that the database assigned."""
    if calls_save(model):
        return save(model, values)
    query = insert_query(model, _names_to_bind(model, values), False)
    database, key = db.current(), key_of(model)
    insert = database.insert_autoincrement
    id_ = _write(model, _may_fail(model, values), insert, query.sql, query.bind(values))
    if key.name in values:  # a server's sequence does not know of it
        database.advance_sequence(model, id_)
    return to_model(model, {key.name: id_, **values})


def insert_if_new(model: type[Row], values: dict[str, Any]) -> Row | None:
    """Insert one prepared row and return it; None where a row with its keys already exists."""
    if calls_save(model):
        return save(model, values)
    query = insert_query(model, _names_to_bind(model, values))
    insert = db.current().insert_row
    count = _write(model, _may_fail(model, values), insert, query.sql, query.bind(values))
    return to_model(model, values) if count else None


def store(model: type[BaseModel], query: Compiled, values: Mapping[str, Any]) -> None:
    """Insert one prepared row by a compiled query, which may replace the row with its key."""
    require_open_database(model)
    _write(model, True, db.current().insert_row, query.sql, query.bind(values))


def change(model: type[BaseModel], query: Compiled, values: Mapping[str, Any]) -> int:
    """Run a compiled UPDATE or DELETE and return the number of rows."""
    require_open_database(model)
    cursor: Any = _write(model, True, db.execute_sql, query.sql, query.bind(values))
    return int(cursor.rowcount)


def insert_or_fetch(
    model: type[BaseModel], values: dict[str, Any], select: tuple[str, list[Any]]
) -> list[tuple[Any, ...]] | None:
    """Insert one prepared row and return None; the rows of a SELECT where it already exists."""
    query = insert_query(model, _names_to_bind(model, values))
    insert = db.current().insert_or_fetch
    params = query.bind(values)
    return _write(model, _may_fail(model, values), insert, (query.sql, params), select)


def _may_fail(model: type[BaseModel], values: dict[str, Any]) -> bool:
    """Return whether a validated row may violate a constraint.

    A trade or a signal may only by a foreign key, or by an id that was given.
    """
    if (model is not Signal and model is not Trade) or (model is Signal and "id" in values):
        return True
    for field in model._meta.refs:  # noqa: SIM110  (half the time of any())
        if values[field.name] is not None:
            return True
    return False


def to_model(model: type[Row], values: dict[str, Any]) -> Row:
    """Return the model of a row that was inserted, with the rows it refers to."""
    related: dict[str, Any] = {}
    for field in model._meta.refs:
        if isinstance(row := values[field.name], BaseModel):
            values[field.name], related[field.name] = row.get_id(), row
    make = initialized_row if overrides(model, "__init__") else new_row
    return make(model, values, related)


def insert_many(
    model: type[Row],
    rows: Iterable[Mapping[str, Any]],
    prepare_row: Callable[[type[Row], Mapping[str, Any]], dict[str, Any]],
    insert_row: Callable[[type[Row], dict[str, Any]], object],
) -> int:
    """Insert rows in one transaction, all or none, and return their number.

    Where a batch fails, its rows are inserted one by one to name the invalid one.
    """
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
        raise ValidationError(f"rows: {show(rows)} is not a series of mappings", field="rows")

    counted_key = key_of(model).name if key_of(model).auto_increment else None
    gives_ids = False

    def prepare_indexed(index: int, row: object) -> dict[str, Any]:
        nonlocal gives_ids
        try:
            if type(row) is not dict and not isinstance(row, Mapping):  # the first is faster
                raise ValidationError(f"{show(row)} is not a mapping of field names")
            values = prepare_row(model, row)
            gives_ids = gives_ids or (counted_key is not None and counted_key in values)
            return values
        except ValidationError as error:
            _add_index(error, index)
            raise

    indexed = enumerate(rows)
    count = 0
    chunk = list(islice(indexed, ROWS_PER_CHUNK))  # before the lock, because a source may be slow
    require_open_database(model)
    one_by_one = calls_save(model)
    with session_scope():
        while chunk:
            if one_by_one or not insert_batch(model, chunk, prepare_indexed):
                for index, row in chunk:
                    values = prepare_indexed(index, row)
                    try:
                        insert_row(model, values)
                    except (ValidationError, DuplicateError) as error:
                        _add_index(error, index)
                        raise
            count += len(chunk)
            chunk = list(islice(indexed, ROWS_PER_CHUNK))
        if gives_ids:
            db.advance_sequence(model)
    return count


def insert_batch(
    model: type[BaseModel],
    chunk: list[tuple[int, Mapping[str, Any]]],
    prepare_indexed: Callable[[int, object], dict[str, Any]],
) -> bool:
    """Insert indexed rows, all or none, and return whether the database accepted them.

    Each row is validated when the database needs it, while a server stores earlier ones.
    """
    names = tuple(prepare_indexed(*chunk[0]))
    query = insert_query(model, _batch_names_to_bind(model, names, chunk))

    def params() -> Iterator[list[Any]]:
        for index, row in chunk:
            values = prepare_indexed(index, row)
            if len(values) != len(names):  # some rows have a key, others do not
                raise _NotAllStoredError
            try:
                row_params = query.bind(values)
            except ValidationError as error:
                _add_index(error, index)
                raise
            yield row_params

    fields = [model._meta.fields[name] for name in query.names]
    try:
        with session_scope():
            if db.insert_rows(query.sql, params(), fields) < len(chunk):
                raise _NotAllStoredError
    except (_NotAllStoredError, peewee.IntegrityError, peewee.DataError):
        return False
    return True


def _batch_names_to_bind(
    model: type[BaseModel], names: tuple[str, ...], chunk: list[tuple[int, Mapping[str, Any]]]
) -> tuple[str, ...]:
    """Return the names of the fields for which some row has a value or a default."""
    if not (db.null_in_sql and _has_few_nullable(model)):
        return names
    if not all(type(row) is dict for _, row in chunk):  # get() of another mapping may find more
        return names
    used: set[str] = set().union(*(row for _, row in chunk))
    fields = model._meta.fields
    return tuple([name for name in names if name in used or fields[name].default is not None])


def _add_index(error: ValidationError | DuplicateError, index: int) -> None:
    error.args = (f"rows[{index}]: {error}",)


def update(base: type[BaseModel], row: Row, changes: Mapping[str, Any]) -> Row:
    """Write the changes and the fields assigned on `row` since it was loaded, and no others."""
    _require_row(base, row)
    model = type(row)
    loaded = values_of(row)
    values = {field.name: loaded[field.name] for field in row.dirty_fields} | dict(changes)
    keys = key_fields(model)
    for name, value in values.items():
        if name not in model._meta.fields:
            refuse_unknown_field(model, name, value)
        if name in [key.name for key in keys]:
            raise ValidationError(f"{name}: cannot be changed; got {show(value)}", field=name)
    if not values:
        name = _argument_name(model)
        raise ValidationError(
            f"nothing to change; name a field, as in update({name}, strategy='a')"
        )
    cleaned = {name: _clean(model._meta.fields[name], value) for name, value in values.items()}
    if calls_save(model):
        for name, value in cleaned.items():
            setattr(row, name, value)
        row.save()
        return row
    query = model.update(cleaned)
    _change_row(row, cleaned, lambda *where: _write(model, True, query.where(*where).execute))
    for name, value in cleaned.items():
        setattr(row, name, value)
    forget_changes(row, cleaned)
    return row


def delete(base: type[BaseModel], row: BaseModel) -> None:
    """Delete one row, or raise `NotFoundError`."""
    _require_row(base, row)
    if overrides(type(row), "delete_instance"):
        if not row.delete_instance():
            raise _not_found(row)
        return
    query = type(row).delete()
    with naming_references(row):
        _change_row(row, None, lambda *where: query.where(*where).execute())


def _change_row(
    row: BaseModel,
    changes: Mapping[str, Any] | None,
    change: Callable[..., int],
) -> None:
    """Change one row, or delete it, with the lock of its key where keys have locks.

    `changes` is None where it is deleted.

    Raises:
        NotFoundError: The row does not exist.
        ValidationError: It is not one of the keys of the open block.
    """
    model, database = type(row), db.current()
    if not is_in_open_database(model):
        if not change(is_row(row)):
            raise _not_found(row)
        return
    keys, key = database.block_keys(), key_of_row(row)
    if keys is not None:
        _require_changes(keys, row, changes)
        if database.changing(None, lambda: change(is_row(row), _has_key(model, keys))):
            return
        stored = database.reading_own_keys(lambda: model.get_or_none(is_row(row)))
        if stored is not None:
            require_key_of(keys, stored)
        raise _not_found(row)
    # the row may have another key meanwhile, or only in memory, and a change may concern rows of
    # another one; without a key all blocks are waited for
    if database.has_key_locks and key is not None and not KEY_FIELDS & {*(changes or ())}:
        own = frozenset([key])
        if changes is not None or not references_to(model):
            if database.changing(key, lambda: change(is_row(row), _has_key(model, own))):
                return
        elif not database.in_transaction():
            try:
                return run_transaction(_change_row, row, changes, change, key=own)
            except ValidationError as error:
                if error.field != "key":
                    raise
    if not change(is_row(row)):
        raise _not_found(row)


def _require_changes(keys: Keys, row: BaseModel, changes: Mapping[str, Any] | None) -> None:
    """Refuse a change of rows that are not of the keys, or would not be."""
    require_key_of(keys, row)
    if changes is not None:
        stored = values_of(row)
        new = {name: changes.get(name, stored[name]) for name in KEY_FIELDS}
        require_key(keys, (new["strategy"] or None, new["symbol"]))
        return
    database = db.current()
    for field in references_to(type(row)):  # which are set to NULL, or deleted
        if not database.reading_own_keys(field.model.table_exists):
            continue
        key = [field.model._meta.fields[name] for name in KEY_FIELDS & {*field.model._meta.fields}]
        value = values_of(row)[field.rel_field.name]
        query = field.model.select(*key or key_fields(field.model)).where(field == value)
        rows: list[BaseModel] = database.reading_own_keys(partial(list, query.distinct()))
        for referring in rows:
            require_key_of(keys, referring)


def _has_key(model: type[BaseModel], keys: Keys) -> Any:
    strategy, symbol = model._meta.fields["strategy"], model._meta.fields["symbol"]
    none = strategy.is_null() if strategy.null else strategy == Value("", converter=False)
    conditions = [
        (none if name is None else strategy == name) & (symbol == of) for name, of in keys
    ]
    return reduce(or_, conditions)


def _not_found(row: BaseModel) -> NotFoundError:
    return NotFoundError(
        f"{type(row).__name__} {row.get_id()} is not in {db.config.label}: deleted, or never stored"
    )


def _write(model: type[BaseModel], may_fail: bool, write: Callable[[*Args], R], *args: *Args) -> R:
    """Write, and raise a violated constraint as `ValidationError` or `DuplicateError`.

    Where it `may_fail`, it is rolled back alone, not with its transaction. That costs a savepoint
    on a server, so a row that cannot violate a constraint is written without.
    """
    try:
        if not may_fail:
            return write(*args)
        with db.current().statement():
            return write(*args)
    except (peewee.IntegrityError, peewee.DataError) as error:
        raise constraint_error(model, error) from error


def constraint_error(model: type[BaseModel], error: peewee.PeeweeException) -> Exception:
    """Return the error for a violated constraint, by the names of the model."""
    violation = db.translated(error) or error
    if isinstance(violation, ForeignKeyError):
        return missing_reference(model)
    if isinstance(violation, UniqueConstraintError):
        return DuplicateError(f"a {model.__name__} with these keys already exists")
    field = violation.field if isinstance(violation, ValidationError) else None
    return ValidationError(str(violation), field=field)
