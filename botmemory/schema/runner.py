"""The migrations of a folder, and the history table that says which of them are applied."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import peewee
from playhouse.migrations import Migration, MigrationError, Runner

from .._version import __version__
from ..backends.sqlite.errors import translate_errors, translated
from ..config import Config, absolute_path
from ..errors import BotMemoryError, DatabaseBusyError, SchemaError, StorageError

if TYPE_CHECKING:
    from ..backends.base import Backend


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of migrations and the name of its history table."""

    path: Path
    history: str
    owner: str  # who writes the files: "botmemory" or "bot"


@dataclass(frozen=True, slots=True)
class Step:
    """One migration of a database.

    Attributes:
        name: The name of its file, without the suffix.
        applied: When it was applied, as a naive datetime in UTC; None while it is pending or
            unfinished.
        version: The version of botmemory that applied it.
        remaining: The statements that an unfinished one still has to run.
    """

    name: str
    applied: datetime | None
    version: str | None
    remaining: tuple[str, ...] = ()


def folders(config: Config) -> list[Folder]:
    """Return botmemory's folder, then that of the custom migrations if there is one."""
    result = [Folder(_installed_folder(), "schema_migration", "botmemory")]
    if config.migrations is not None:
        path = absolute_path("migrations", config.migrations)
        if not _is_folder(path):
            raise SchemaError(f"migrations: {path} is not a folder; create it, or correct the path")
        result.append(Folder(path, "custom_migration", "bot"))
    return result


def _installed_folder() -> Path:
    spec = find_spec("botmemory.migrations")
    if spec is None or spec.origin is None:
        raise SchemaError(
            "botmemory.migrations: the package has no migrations; install botmemory again with pip"
        )
    folder = Path(spec.origin).parent
    if not _is_folder(folder):
        raise SchemaError(
            f"botmemory.migrations: {folder} is not a folder on the disk, as in a zip archive; "
            "migrations need their files: install the package with pip, or unpack the archive"
        )
    return folder


def _is_folder(path: Path) -> bool:
    with translate_errors(path, "cannot be read"):
        return path.is_dir()


class SafeRunner(Runner):  # type: ignore[misc]
    """Peewee's runner with a history in UTC that holds the checksum of each file.

    Each migration is one transaction together with its row in the history. It is rolled back if it
    leaves rows that refer to missing rows. On a server, what would keep others waiting follows the
    transaction; until all of it is done, the row holds the direction and the remaining statements.
    """

    def __init__(self, database: Backend, folder: Folder) -> None:
        self.folder = folder
        super().__init__(database, str(folder.path), table_name=folder.history)
        self.migrator = database.migrator()

        class History(database.Model):  # type: ignore[misc, name-defined]
            name = peewee.CharField(unique=True)
            applied = peewee.DateTimeField(default=utc_now)
            checksum = peewee.CharField(max_length=64, null=True)
            version = peewee.CharField(max_length=32, null=True, default=__version__)
            remaining = peewee.TextField(null=True)  # JSON

            class Meta:
                table_name = folder.history

        self.History = History
        self.fields = History._meta.sorted_fields

    def migrations(self) -> list[Migration]:
        # Peewee treats a folder that cannot be listed as an empty one
        with translate_errors(self.folder.path, "cannot be listed"):
            files = [file for file in self.folder.path.iterdir() if file.suffix == ".py"]
        numbered = [(re.match("[0-9]+", file.name), file) for file in files]
        return sorted(
            Migration(int(number[0]), file.stem, str(file), None)
            for number, file in numbered
            if number is not None
        )

    def records(self) -> dict[str, dict[str, Any]]:
        """Return the rows of the history by the names of their migrations."""
        columns = self._columns()
        fields = [field for field in self.fields if field.column_name in columns]
        rows = self.History.select(*fields).dicts() if fields else []
        added = {"checksum": None, "version": None, "remaining": None}  # by later versions
        return {row["name"]: added | row for row in rows}

    def applied(self) -> dict[str, datetime]:
        return {name: record["applied"] for name, record in self.records().items()}

    def _columns(self) -> set[str]:
        if not self.History.table_exists():
            return set()
        return {column.name for column in self.database.get_columns(self.table_name)}

    def complete_history(self) -> None:
        """Create the history table, or add the columns that one made by `pwmigrate` lacks."""
        self.History.create_table()
        columns = self._columns()
        missing = [field for field in self.fields if field.column_name not in columns]
        if missing:
            self.migrator.repeat(lambda: self._add_columns(missing))

    def _add_columns(self, fields: list[Any]) -> None:
        with self.migrator.migration_context():
            for field in fields:
                self.migrator.migrate(
                    self.migrator.add_column(self.table_name, field.column_name, field)
                )

    def stamp(self, name: str) -> None:
        """Record a migration as applied, with the checksum of its file."""
        values = {"checksum": self.checksum(name), "remaining": None}
        if not self.History.update(values).where(self.History.name == name).execute():
            self.History.create(name=name, **values)

    def checksum(self, name: str) -> str:
        """Return the SHA-256 of a file, which is the same with Windows' line ends."""
        file = self.folder.path / f"{name}.py"
        with translate_errors(file, "cannot be read"):
            content = file.read_bytes()
        return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()

    def finish(self) -> list[str]:
        """Run what was put off by migrations that were interrupted; return those now applied."""
        unfinished = {name: row for name, row in self.records().items() if row["remaining"]}
        for name in unfinished:
            self._run_put_off(name)
        return [name for name in unfinished if name in self.records()]

    def _run(self, name: str, module: Any, direction: str, fake: bool = False) -> None:
        atomic = getattr(module, "atomic", True) and self.migrator.transactional_ddl
        change = partial(self._change, name, module, direction, atomic)
        try:
            is_unfinished = self.migrator.repeat(change) if atomic else change()
        except (DatabaseBusyError, StorageError):
            raise
        except Exception as error:  # a migration may raise anything
            outcome = (
                "and was rolled back"
                if atomic
                else "half-way, and cannot be rolled back: compare the tables with the file"
            )
            cause = error.__cause__ if isinstance(error, SchemaError) else error
            kind = "" if isinstance(cause, peewee.PeeweeException) else f"{type(cause).__name__}: "
            raise SchemaError(
                f"{self.database.config.label}: the migration {name} failed {outcome}: "
                f"{kind}{cause}"
            ) from error
        if is_unfinished:
            self._run_put_off(name)

    def _change(self, name: str, module: Any, direction: str, atomic: bool) -> bool:
        """Run a migration and record it; return whether something was put off."""
        with self.migrator.migration_context(atomic):
            # another process may have run it before this one got the lock
            record = self.records().get(name)
            if (record is not None) == (direction == "up"):
                return bool(record and record["remaining"])
            if record and record["remaining"]:
                unfinished, *statements = json.loads(record["remaining"])
                if unfinished == direction:
                    return True
                self.migrator.discard(statements)
            orphans = Counter(self.database.orphans())
            super()._run(name, module, direction)
            if direction == "up":
                self.stamp(name)
            for (table, parent), count in (Counter(self.database.orphans()) - orphans).items():
                raise MigrationError(
                    f"it leaves {count} rows of '{table}' that refer to missing rows of '{parent}'"
                )
            statements = self.migrator.put_off()
            if statements:
                if record is not None:
                    self.History.create(**record)
                self._set_remaining(name, [direction, *statements])
            return bool(statements)

    def _run_put_off(self, name: str) -> None:
        """Run what a migration has put off, each statement with its entry in the history."""
        while (record := self.records().get(name)) and record["remaining"]:
            direction, statement, *rest = json.loads(record["remaining"])
            try:
                self.migrator.run_put_off(
                    statement, partial(self._set_remaining, name, [direction, *rest])
                )
            except BotMemoryError as error:
                label = self.database.config.label
                is_busy = isinstance(error, DatabaseBusyError)
                reason = error if is_busy else error.__cause__ or error
                raise (DatabaseBusyError if is_busy else SchemaError)(
                    f"{label}: the migration {name} is applied except for '{statement}', which "
                    f"failed: {str(reason).removeprefix(f'{label}: ')}; 'up' goes on with it, "
                    f"'down {name}' reverts it"
                ) from error

    def _set_remaining(self, name: str, remaining: list[str]) -> None:
        """Store the direction of a migration and what remains of it."""
        row = self.History.name == name
        if remaining == ["down"]:
            self.History.delete().where(row).execute()
        else:
            text = json.dumps(remaining) if len(remaining) > 1 else None
            self.History.update(remaining=text).where(row).execute()


def checked_steps(runner: SafeRunner) -> list[Step]:
    """Return the migrations in order; raise `SchemaError` if files and history do not match."""
    label, folder = runner.database.config.label, runner.folder
    files = runner.migrations()
    for file, following in pairwise(files):
        if file.idx == following.idx:
            raise SchemaError(
                f"{folder.path}: {file.name}.py and {following.name}.py have the same number; "
                f"rename the one that is not applied, as {files[-1].idx + 1:04}_..."
            )
    records = runner.records()
    names = {file.name for file in files}
    last = files[-1].idx if files else 0
    for name, record in records.items():
        if name not in names:
            raise SchemaError(f"{label}: {_unknown_migration(folder, name, record, last)}")
        if record["checksum"] not in (None, runner.checksum(name)):
            raise SchemaError(
                f"{label}: {folder.path / name}.py was changed after it was applied on "
                f"{record['applied']:%Y-%m-%d}; restore the file and write the change as a new "
                f"migration, or accept the changed file with 'stamp {name}'"
            )
    newest = max((file for file in files if file.name in records), default=None)
    for file in files:
        if newest is not None and file < newest and file.name not in records:
            raise SchemaError(
                f"{label}: {file.name} is pending, but {newest.name}, which comes after it, is "
                f"applied; rename it {last + 1:04}_..., or, if the database already has its "
                f"change, record it with 'stamp {file.name}'"
            )
    return [_step(file.name, records.get(file.name)) for file in files]


def _step(name: str, record: dict[str, Any] | None) -> Step:
    if record is None:
        return Step(name, None, None)
    if record["remaining"]:
        _, *remaining = json.loads(record["remaining"])
        return Step(name, None, record["version"], tuple(remaining))
    return Step(name, record["applied"], record["version"])


def _unknown_migration(folder: Folder, name: str, record: dict[str, Any], last: int) -> str:
    number = name.partition("_")[0]
    if number.isdigit() and int(number) > last:
        by, upgrade = "a newer version", "upgrade the bot"
        if folder.owner == "botmemory":
            upgrade = "upgrade the package"
            by = f"version {record['version']}" if record["version"] else by
        return (
            f"has migration {name}, which is unknown to this {folder.owner}; it was applied by "
            f"{by}: {upgrade}"
        )
    return (
        f"has migration {name}, whose file is missing in {folder.path}; restore the file, or "
        "install the package again"
    )


@contextmanager
def translate_migration_errors(label: str) -> Iterator[None]:
    """Translate errors raised before a migration runs; those of the system to `StorageError`."""
    try:
        yield
    except BotMemoryError:
        raise
    except OSError as error:
        raise translated(error, label, "cannot be migrated, nothing was run") from error
    except Exception as error:
        kind = "" if isinstance(error, MigrationError) else f"{type(error).__name__}: "
        raise SchemaError(f"{label}: cannot be migrated, nothing was run: {kind}{error}") from error


def utc_now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
