"""Answer the total PnL of a symbol from its index alone, without looking at the trades."""


def up(migrator, db):
    cover(migrator, ("symbol", "timestamp", "id", "pnl"))


def down(migrator, db):
    cover(migrator, ("symbol", "timestamp", "id"))


def cover(migrator, columns):
    migrator.migrate(
        migrator.drop_index("trade", "trade_symbol"),
        migrator.add_index("trade", columns, name="trade_symbol"),
    )
