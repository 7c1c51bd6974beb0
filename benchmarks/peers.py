"""The same calls as most people write them: Peewee's own methods, and SQLAlchemy's ORM."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import peewee
import sqlalchemy as sa
from peewee import chunked
from sqlalchemy import orm

from . import raw


class TimestampField(peewee.Field):
    """An aware datetime as text of fixed width."""

    field_type = "TEXT"

    def db_value(self, value: datetime | None) -> str | None:
        return None if value is None else value.isoformat(" ", "microseconds")

    def python_value(self, value: str | None) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


class NaivePeewee:
    """`Model.create`, `insert_many` in chunks, `select()`."""

    name = "Peewee"

    def __init__(self, path: str, synchronous: str) -> None:
        raw.Raw(path, synchronous).close()  # the same tables
        pragmas = {"journal_mode": "wal", "foreign_keys": 1, "synchronous": synchronous}
        self.database = peewee.SqliteDatabase(path, pragmas=pragmas)

        class Trade(peewee.Model):
            id = peewee.UUIDField(primary_key=True, default=uuid.uuid4)
            timestamp = TimestampField()
            symbol = peewee.CharField(max_length=20)
            side = peewee.CharField(max_length=4)
            price = peewee.DoubleField()
            quantity = peewee.DoubleField()
            pnl = peewee.DoubleField(null=True)
            signal_id = peewee.IntegerField(null=True)
            strategy = peewee.CharField(null=True)
            fee = peewee.DoubleField(null=True)
            fee_currency = peewee.CharField(null=True)
            exchange = peewee.CharField(null=True)
            exchange_trade_id = peewee.CharField(null=True)
            trade_metadata = peewee.JSONField(null=True)
            contract_size = peewee.DoubleField(null=True)

            class Meta:
                database = self.database
                table_name = "trade"

        self.model: Any = Trade

    def close(self) -> None:
        self.database.close()

    def create(self, row: dict[str, Any]) -> uuid.UUID:
        key: uuid.UUID = self.model.create(**row).id
        return key

    def create_in_transaction(self, rows: list[dict[str, Any]]) -> None:
        with self.database.atomic():
            for row in rows:
                self.model.create(**row)

    def create_many(self, rows: Iterable[dict[str, Any]]) -> None:
        with self.database.atomic():
            for chunk in chunked(rows, 500):
                self.model.insert_many(chunk).execute()

    def ids_at(self, timestamps: list[datetime]) -> list[uuid.UUID]:
        return [self.model.get(self.model.timestamp == timestamp).id for timestamp in timestamps]

    def get_by_id(self, key: uuid.UUID) -> Any:
        return self.model.get_by_id(key)

    def get_latest(self, symbol: str) -> list[Any]:
        model = self.model
        query = model.select().where(model.symbol == symbol)
        return list(query.order_by(model.timestamp.desc()).limit(10))

    def get_by_date_range(self, symbol: str, start: datetime, end: datetime) -> list[Any]:
        model = self.model
        between = model.timestamp.between(start, end)
        query = model.select().where(model.symbol == symbol, between)
        return list(query.order_by(model.timestamp))

    def iterate(self, count: int) -> int:
        query = self.model.select().order_by(self.model.timestamp)
        return sum(1 for _ in islice(query.iterator(), count))

    def get_total_pnl(self, symbol: str) -> float:
        query = self.model.select(peewee.fn.SUM(self.model.pnl))
        return float(query.where(self.model.symbol == symbol).scalar())

    def get_trade_count(self, symbol: str) -> int:
        return int(self.model.select().where(self.model.symbol == symbol).count())


class Timestamp(sa.types.TypeDecorator[datetime]):
    """An aware datetime as text of fixed width."""

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: object) -> str | None:
        return None if value is None else value.isoformat(" ", "microseconds")

    def process_result_value(self, value: str | None, dialect: object) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value).astimezone(UTC)


class Base(orm.DeclarativeBase):
    pass


class Record(Base):
    """A 2.x declarative model."""

    __tablename__ = "trade"

    id: orm.Mapped[str] = orm.mapped_column(primary_key=True, default=lambda: uuid.uuid4().hex)
    timestamp: orm.Mapped[datetime] = orm.mapped_column(Timestamp)
    symbol: orm.Mapped[str]
    side: orm.Mapped[str]
    price: orm.Mapped[float]
    quantity: orm.Mapped[float]
    pnl: orm.Mapped[float | None]
    signal_id: orm.Mapped[int | None]
    strategy: orm.Mapped[str | None]
    fee: orm.Mapped[float | None]
    fee_currency: orm.Mapped[str | None]
    exchange: orm.Mapped[str | None]
    exchange_trade_id: orm.Mapped[str | None]
    trade_metadata: orm.Mapped[Any | None] = orm.mapped_column(sa.JSON)
    contract_size: orm.Mapped[float | None]


class SqlAlchemy:
    """A session per call, `add_all` for bulk."""

    name = "SQLAlchemy"

    def __init__(self, path: str, synchronous: str) -> None:
        raw.Raw(path, synchronous).close()  # the same tables
        self.engine = sa.create_engine(f"sqlite:///{path}")

        @sa.event.listens_for(self.engine, "connect")
        def _(connection: Any, _: object) -> None:
            connection.execute("PRAGMA foreign_keys = 1")
            connection.execute(f"PRAGMA synchronous = {synchronous}")

    def close(self) -> None:
        self.engine.dispose()

    def create(self, row: dict[str, Any]) -> str:
        with orm.Session(self.engine, expire_on_commit=False) as session:
            record = Record(**row)
            session.add(record)
            session.commit()
            return record.id

    def create_in_transaction(self, rows: list[dict[str, Any]]) -> None:
        with orm.Session(self.engine, expire_on_commit=False) as session:
            for row in rows:
                session.add(Record(**row))
                session.flush()
            session.commit()

    def create_many(self, rows: Iterable[dict[str, Any]]) -> None:
        with orm.Session(self.engine, expire_on_commit=False) as session:
            for chunk in chunked(rows, 10_000):
                session.add_all([Record(**row) for row in chunk])
                session.flush()
                session.expunge_all()
            session.commit()

    def ids_at(self, timestamps: list[datetime]) -> list[str]:
        queries = [sa.select(Record.id).where(Record.timestamp == at) for at in timestamps]
        with orm.Session(self.engine) as session:
            return [session.scalars(query).first() or "" for query in queries]

    def get_by_id(self, key: str) -> Record | None:
        with orm.Session(self.engine) as session:
            return session.get(Record, key)

    def get_latest(self, symbol: str) -> list[Record]:
        query = sa.select(Record).where(Record.symbol == symbol)
        with orm.Session(self.engine) as session:
            return list(session.scalars(query.order_by(Record.timestamp.desc()).limit(10)))

    def get_by_date_range(self, symbol: str, start: datetime, end: datetime) -> list[Record]:
        between = Record.timestamp.between(start, end)
        query = sa.select(Record).where(Record.symbol == symbol, between).order_by(Record.timestamp)
        with orm.Session(self.engine) as session:
            return list(session.scalars(query))

    def iterate(self, count: int) -> int:
        query = sa.select(Record).order_by(Record.timestamp).execution_options(yield_per=1000)
        with orm.Session(self.engine) as session:
            return sum(1 for _ in islice(session.scalars(query), count))

    def get_total_pnl(self, symbol: str) -> float:
        query = sa.select(sa.func.sum(Record.pnl)).where(Record.symbol == symbol)
        with orm.Session(self.engine) as session:
            return float(session.scalar(query) or 0)

    def get_trade_count(self, symbol: str) -> int:
        query = sa.select(sa.func.count()).where(Record.symbol == symbol)
        with orm.Session(self.engine) as session:
            return int(session.scalar(query) or 0)
