"""Create the table state: what a bot needs after a restart, by strategy and key."""

from peewee import CharField, Check, CompositeKey, Field, JSONField, Model, SqliteDatabase

TIMESTAMP = (
    "length(updated_at) = 32 AND "
    "substr(updated_at, 20) GLOB '.[0-9][0-9][0-9][0-9][0-9][0-9]+00:00' AND "
    "strftime('%Y-%m-%d %H:%M:%S', substr(updated_at, 1, 19), '+0 days') "
    "IS substr(updated_at, 1, 19)"
)


def up(migrator, db):
    sqlite = isinstance(db, SqliteDatabase)

    class TimestampField(Field):
        field_type = "TEXT" if sqlite else "TIMESTAMPTZ"

    conditions = {
        "strategy": "length(strategy) BETWEEN 0 AND 64 AND strategy = trim(strategy)",
        "key": "length(key) BETWEEN 1 AND 128 AND key = trim(key)",
    }
    if sqlite:  # PostgreSQL's types enforce these
        conditions["value"] = "value IS NULL OR json_valid(value)"
        conditions["updated_at"] = TIMESTAMP

    checks = [
        Check(condition, name=f"state_{column}_check") for column, condition in conditions.items()
    ]

    class State(Model):
        strategy = CharField(max_length=64)  # "" for none: a column of the key cannot be NULL
        key = CharField(max_length=128)
        value = JSONField(null=True)
        updated_at = TimestampField()

        class Meta:
            database = db
            table_name = "state"
            primary_key = CompositeKey("strategy", "key")
            constraints = checks

    State.create_table(safe=False)


def down(migrator, db):
    migrator.migrate(migrator.drop_table("state"))
