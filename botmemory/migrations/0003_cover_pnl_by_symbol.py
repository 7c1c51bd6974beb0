"""Add pnl to the index on symbol, so that it covers the total PnL of a symbol."""


def up(migrator, db):
    recreate_index(migrator, ("symbol", "timestamp", "id", "pnl"))


def down(migrator, db):
    recreate_index(migrator, ("symbol", "timestamp", "id"))


def recreate_index(migrator, columns):
    migrator.migrate(
        migrator.drop_index("trade", "trade_symbol"),
        migrator.add_index("trade", columns, name="trade_symbol"),
    )
