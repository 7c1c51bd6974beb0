"""Create the tables signal and trade."""

from peewee import (
    SQL,
    BigAutoField,
    CharField,
    Check,
    DoubleField,
    Field,
    JSONField,
    Model,
    SmallIntegerField,
    SqliteDatabase,
    UUIDField,
)

LARGEST = "1.7976931348623157e308"
SYMBOL = "length(symbol) BETWEEN 1 AND 20 AND symbol = trim(symbol)"
TIMESTAMP = (
    "length(timestamp) = 32 AND "
    "substr(timestamp, 20) GLOB '.[0-9][0-9][0-9][0-9][0-9][0-9]+00:00' AND "
    "strftime('%Y-%m-%d %H:%M:%S', substr(timestamp, 1, 19), '+0 days') IS substr(timestamp, 1, 19)"
)


def up(migrator, db):
    sqlite = isinstance(db, SqliteDatabase)

    class TimestampField(Field):
        field_type = "TEXT" if sqlite else "TIMESTAMPTZ"

    def checks(table, conditions, sqlite_conditions):
        conditions = conditions | (sqlite_conditions if sqlite else {})
        return [
            Check(condition, name=f"{table}_{column}_check")
            for column, condition in conditions.items()
        ]

    class Signal(Model):
        # without AUTOINCREMENT SQLite reuses the id of a deleted signal
        id = BigAutoField(constraints=[SQL("AUTOINCREMENT")] if sqlite else None)
        timestamp = TimestampField()
        symbol = CharField(max_length=20)
        signal_value = SmallIntegerField()
        signal_metadata = JSONField(null=True)

        class Meta:
            database = db
            table_name = "signal"
            constraints = checks(
                "signal",
                {"symbol": SYMBOL, "signal_value": "signal_value IN (1, -1, 0)"},
                {
                    "timestamp": TIMESTAMP,
                    "signal_metadata": "signal_metadata IS NULL OR json_valid(signal_metadata)",
                },
            )

    class Trade(Model):
        id = UUIDField(primary_key=True)
        timestamp = TimestampField()
        symbol = CharField(max_length=20)
        side = CharField(max_length=4)
        price = DoubleField()
        quantity = DoubleField()
        pnl = DoubleField(null=True)

        class Meta:
            database = db
            table_name = "trade"
            constraints = checks(
                "trade",
                {
                    "symbol": SYMBOL,
                    "side": "side IN ('buy', 'sell')",
                    "price": f"price > 0 AND price <= {LARGEST}",
                    "quantity": f"quantity > 0 AND quantity <= {LARGEST}",
                    "pnl": f"pnl BETWEEN -{LARGEST} AND {LARGEST}",
                },
                {"id": "length(id) = 32 AND id NOT GLOB '*[^0-9a-f]*'", "timestamp": TIMESTAMP},
            )

    for model in (Signal, Trade):
        table = model._meta.table_name
        model.create_table(safe=False)
        migrator.migrate(
            migrator.add_index(table, ("timestamp", "id"), name=f"{table}_timestamp"),
            migrator.add_index(table, ("symbol", "timestamp", "id"), name=f"{table}_symbol"),
        )


def down(migrator, db):
    migrator.migrate(migrator.drop_table("trade"), migrator.drop_table("signal"))
