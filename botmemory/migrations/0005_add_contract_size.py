"""Add the contract size of a trade: how much of the base currency one contract is."""

from peewee import Check, DoubleField


def up(migrator, db):
    condition = "contract_size > 0 AND contract_size <= 1.7976931348623157e308"
    constraints = [Check(condition, name="trade_contract_size_check")]
    column = DoubleField(null=True, constraints=constraints)
    migrator.migrate(migrator.add_column("trade", "contract_size", column))


def down(migrator, db):
    migrator.migrate(migrator.drop_column("trade", "contract_size", cascade=False))
