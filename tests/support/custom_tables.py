"""Custom tables beside those of botmemory: their models, and a folder with their migrations."""

from __future__ import annotations

import uuid
from datetime import datetime
from pathlib import Path

import peewee

from botmemory import BaseModel, Signal, Trade, migrations
from botmemory.fields import (
    DoubleField,
    IdField,
    LabelField,
    ReferenceField,
    UtcDateTimeField,
)
from botmemory.uuid7 import uuid7


class EquitySnapshot(BaseModel):
    """The equity of the account at one time."""

    id: peewee.Field[uuid.UUID] = IdField(primary_key=True, default=uuid7)
    timestamp: peewee.Field[datetime] = UtcDateTimeField()
    symbol: peewee.Field[str] = LabelField(max_length=20)
    strategy: peewee.Field[str | None] = LabelField(max_length=64, null=True)
    equity: peewee.Field[float] = DoubleField()
    trade: peewee.Field[Trade | None] = ReferenceField(
        Trade, null=True, index=False, on_delete="SET NULL"
    )

    class Meta:
        indexes = ((("timestamp", "id"), False),)


class Remark(BaseModel):
    """A table with Peewee's own fields and without a timestamp."""

    text = peewee.CharField(max_length=50, unique=True)
    stars = peewee.IntegerField(default=3)
    about = peewee.ForeignKeyField(Signal, null=True, index=False)


class Reading(BaseModel):
    """A table with a key of two fields, and Peewee's other types of fields."""

    sensor = peewee.CharField(max_length=10)
    number = peewee.IntegerField()
    flag = peewee.BooleanField(null=True)
    amount = peewee.DecimalField(null=True, max_digits=20, decimal_places=8)
    day = peewee.DateField(null=True)
    clock = peewee.TimeField(null=True)
    at = peewee.DateTimeField(null=True)
    raw = peewee.BlobField(null=True)
    identity = peewee.UUIDField(null=True)
    data = peewee.JSONField(null=True)

    class Meta:
        primary_key = peewee.CompositeKey("sensor", "number")


READINGS_TEXT = '''"""Create the table of readings."""

import peewee


def up(migrator, db):
    class Reading(peewee.Model):
        sensor = peewee.CharField(max_length=10)
        number = peewee.IntegerField()
        flag = peewee.BooleanField(null=True)
        amount = peewee.DecimalField(null=True, max_digits=20, decimal_places=8)
        day = peewee.DateField(null=True)
        clock = peewee.TimeField(null=True)
        at = peewee.DateTimeField(null=True)
        raw = peewee.BlobField(null=True)
        identity = peewee.UUIDField(null=True)
        data = peewee.JSONField(null=True)

        class Meta:
            database = db
            primary_key = peewee.CompositeKey("sensor", "number")

    db.create_tables([Reading], safe=False)


def down(migrator, db):
    migrator.migrate(migrator.drop_table("reading"))
'''

# the names of botmemory's own migrations
OURS = sorted(file.stem for file in Path(migrations.__file__).parent.glob("0*.py"))

FIRST = "0001_create_equity_snapshot"
FIRST_TEXT = '''"""Create the table of equity snapshots."""

from peewee import CharField, DoubleField, Field, ForeignKeyField, Model, SqliteDatabase, UUIDField


def up(migrator, db):
    class Timestamp(Field):
        field_type = "TEXT" if isinstance(db, SqliteDatabase) else "TIMESTAMPTZ"

    class Trade(Model):
        id = UUIDField(primary_key=True)

        class Meta:
            database = db

    class EquitySnapshot(Model):
        id = UUIDField(primary_key=True)
        timestamp = Timestamp()
        symbol = CharField(max_length=20)
        strategy = CharField(max_length=64, null=True)
        equity = DoubleField()
        trade = ForeignKeyField(Trade, null=True, index=False, on_delete="SET NULL")

        class Meta:
            database = db
            legacy_table_names = False
            indexes = ((("timestamp", "id"), False),)

    db.create_tables([EquitySnapshot], safe=False)


def down(migrator, db):
    migrator.migrate(migrator.drop_table("equity_snapshot"))
'''
SECOND = "0002_create_remark"
SECOND_TEXT = '''"""Create the table of remarks."""

from peewee import AutoField, BigAutoField, CharField, ForeignKeyField, IntegerField, Model


def up(migrator, db):
    class Signal(Model):
        id = BigAutoField()

        class Meta:
            database = db

    class Remark(Model):
        id = AutoField()
        text = CharField(max_length=50, unique=True)
        stars = IntegerField()
        about = ForeignKeyField(Signal, null=True, index=False)

        class Meta:
            database = db

    db.create_tables([Remark], safe=False)


def down(migrator, db):
    migrator.migrate(migrator.drop_table("remark"))
'''


def custom_migrations(parent: Path, **others: str) -> Path:
    """Write a folder with the two migrations, and with others by their names without a number."""
    folder = parent / "own"
    folder.mkdir()
    texts = {FIRST: FIRST_TEXT, SECOND: SECOND_TEXT} | {
        f"{number:04}_{name}": text for number, (name, text) in enumerate(others.items(), 3)
    }
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    return folder
