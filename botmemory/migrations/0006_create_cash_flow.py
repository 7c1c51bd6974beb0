"""Create the table cash_flow: money that moved without a trade."""

from peewee import (
    SQL,
    BigAutoField,
    CharField,
    Check,
    DoubleField,
    Field,
    JSONField,
    Model,
    SqliteDatabase,
)

LARGEST = "1.7976931348623157e308"
KINDS = (
    "funding",
    "interest",
    "rebate",
    "deposit",
    "withdrawal",
    "payout",
    "fee",
    "transfer",
    "other",
)
TIMESTAMP = (
    "length(timestamp) = 32 AND "
    "substr(timestamp, 20) GLOB '.[0-9][0-9][0-9][0-9][0-9][0-9]+00:00' AND "
    "strftime('%Y-%m-%d %H:%M:%S', substr(timestamp, 1, 19), '+0 days') IS substr(timestamp, 1, 19)"
)


def up(migrator, db):
    sqlite = isinstance(db, SqliteDatabase)

    class TimestampField(Field):
        field_type = "TEXT" if sqlite else "TIMESTAMPTZ"

    conditions = {
        "kind": f"kind IN {KINDS}",
        "currency": label("currency", 20),
        "amount": f"amount BETWEEN -{LARGEST} AND {LARGEST}",
        "symbol": label("symbol", 64),
        "strategy": label("strategy", 64),
        "exchange": label("exchange", 32),
        "exchange_flow_id": label("exchange_flow_id", 128)
        + " AND (exchange_flow_id IS NULL OR exchange IS NOT NULL)",
    }
    if sqlite:  # PostgreSQL's types enforce these
        conditions["timestamp"] = TIMESTAMP
        conditions["metadata"] = "metadata IS NULL OR json_valid(metadata)"

    checks = [
        Check(condition, name=f"cash_flow_{column}_check")
        for column, condition in conditions.items()
    ]

    class CashFlow(Model):
        # without AUTOINCREMENT SQLite reuses the id of a deleted row
        id = BigAutoField(constraints=[SQL("AUTOINCREMENT")] if sqlite else None)
        timestamp = TimestampField()
        kind = CharField(max_length=10)
        currency = CharField(max_length=20)
        amount = DoubleField()
        symbol = CharField(max_length=64, null=True)
        strategy = CharField(max_length=64, null=True)
        exchange = CharField(max_length=32, null=True)
        exchange_flow_id = CharField(max_length=128, null=True)
        metadata = JSONField(null=True)

        class Meta:
            database = db
            table_name = "cash_flow"
            constraints = checks

    CashFlow.create_table(safe=False)
    migrator.migrate(
        migrator.add_index("cash_flow", ("timestamp", "id"), name="cash_flow_timestamp"),
        migrator.add_index(
            "cash_flow",
            ("symbol", "timestamp", "id"),
            where=SQL("symbol IS NOT NULL"),
            name="cash_flow_symbol",
        ),
        migrator.add_index(
            "cash_flow",
            ("exchange", "exchange_flow_id"),
            unique=True,
            where=SQL("exchange_flow_id IS NOT NULL"),
            name="cash_flow_exchange",
        ),
    )


def label(column, longest):
    return f"length({column}) BETWEEN 1 AND {longest} AND {column} = trim({column})"


def down(migrator, db):
    migrator.migrate(migrator.drop_table("cash_flow"))
