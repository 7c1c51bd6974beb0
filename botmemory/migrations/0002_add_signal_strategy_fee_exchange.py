"""Add the signal, strategy, fee, exchange, exchange id and metadata of a trade."""

from peewee import (
    SQL,
    BigAutoField,
    CharField,
    Check,
    DoubleField,
    ForeignKeyField,
    JSONField,
    Model,
    SqliteDatabase,
)

LARGEST = "1.7976931348623157e308"


def up(migrator, db):
    class Signal(Model):
        id = BigAutoField()

        class Meta:
            database = db
            table_name = "signal"

    def check(table, column, condition):
        return [Check(condition, name=f"{table}_{column}_check")]

    def label(table, column, longest, more=""):
        condition = f"length({column}) BETWEEN 1 AND {longest} AND {column} = trim({column}){more}"
        return CharField(max_length=longest, null=True, constraints=check(table, column, condition))

    fee = f"fee BETWEEN -{LARGEST} AND {LARGEST}"
    # PostgreSQL's jsonb is always valid
    valid = check("trade", "trade_metadata", "trade_metadata IS NULL OR json_valid(trade_metadata)")
    signal = ForeignKeyField(Signal, field=Signal.id, null=True, index=False, on_delete="SET NULL")
    needs_exchange = " AND (exchange_trade_id IS NULL OR exchange IS NOT NULL)"
    columns = {
        "signal_id": signal,
        "strategy": label("trade", "strategy", 64),
        "fee": DoubleField(null=True, constraints=check("trade", "fee", fee)),
        "fee_currency": label("trade", "fee_currency", 20),
        "exchange": label("trade", "exchange", 32),
        "exchange_trade_id": label("trade", "exchange_trade_id", 128, needs_exchange),
        "trade_metadata": JSONField(
            null=True, constraints=valid if isinstance(db, SqliteDatabase) else None
        ),
    }
    migrator.migrate(
        migrator.add_column("signal", "strategy", label("signal", "strategy", 64)),
        *(migrator.add_column("trade", name, field) for name, field in columns.items()),
        migrator.add_index(
            "trade", ("signal_id",), where=SQL("signal_id IS NOT NULL"), name="trade_signal"
        ),
        migrator.add_index(
            "trade",
            ("exchange", "symbol", "exchange_trade_id"),
            unique=True,
            where=SQL("exchange_trade_id IS NOT NULL"),
            name="trade_exchange",
        ),
    )
    for table in ("signal", "trade"):
        migrator.migrate(
            migrator.add_index(
                table,
                ("strategy", "timestamp", "id"),
                where=SQL("strategy IS NOT NULL"),
                name=f"{table}_strategy",
            )
        )


def down(migrator, db):
    names = ("trade_signal", "trade_exchange", "trade_strategy", "signal_strategy")
    tables = ("trade", "trade", "trade", "signal")
    columns = (
        "trade_metadata",
        "exchange_trade_id",
        "exchange",
        "fee_currency",
        "fee",
        "strategy",
        "signal_id",
    )
    migrator.migrate(
        *(migrator.drop_index(table, name) for table, name in zip(tables, names, strict=True)),
        *(migrator.drop_column("trade", column, cascade=False) for column in columns),
        migrator.drop_column("signal", "strategy", cascade=False),
    )
