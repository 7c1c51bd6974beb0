"""On a server, add an index of the trades of each strategy and symbol.

A block with a key reads them while others of that key wait. A file, which has one writer at a time,
would lose more with each INSERT than its readers gain.
"""

from peewee import SQL, SqliteDatabase


def up(migrator, db):
    if not isinstance(db, SqliteDatabase):
        migrator.migrate(
            migrator.add_index(
                "trade",
                ("strategy", "symbol", "timestamp", "id"),
                where=SQL("strategy IS NOT NULL"),
                name="trade_strategy_symbol",
            )
        )


def down(migrator, db):
    if not isinstance(db, SqliteDatabase):
        migrator.migrate(migrator.drop_index("trade", "trade_strategy_symbol"))
