"""What a statement does to rows is seen in its SQL."""

from __future__ import annotations

import pytest

from botmemory.backends.statements import (
    begins_transaction,
    changes_rows,
    only_selects,
    uses_rows,
)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ('INSERT INTO "trade" ("id", "updated_at", "select") VALUES (%s)', False),
        ('INSERT INTO "trade" ("id") VALUES (%s) ON CONFLICT DO NOTHING', False),
        ('INSERT INTO "trade" ("id") SELECT 1', True),
        ('INSERT INTO "trade" ("id")\nselect 1', True),
        ("insert into trade (id) values (1) on conflict (id) do update set id = 1", True),
        ("INSERT OR REPLACE INTO trade (id) VALUES (1)", True),
        ("/* a\nb */ -- c\n delete from trade", True),
        ("(SELECT 1) UNION (SELECT 2)", True),
        ('SAVEPOINT "s0"', False),
        ('ROLLBACK TO SAVEPOINT "s0"', False),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", False),
        ("", False),
    ],
)
def test_what_a_statement_may_use_is_seen_in_it(sql: str, expected: bool) -> None:
    assert uses_rows(sql) is expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ('INSERT INTO "trade" ("id") VALUES (%s)', True),
        ("/* a\nb */ -- c\n delete from trade", True),
        ("merge into trade using signal on true when matched then delete", True),
        ('WITH "a" AS (SELECT 1) UPDATE "trade" SET "pnl" = %s', True),
        ("with a as (select 1)\ninsert into trade (id) select 1", True),
        ("WITH a AS (SELECT 1) INSERT OR REPLACE INTO trade (id) SELECT 1", True),
        ("WITH gone AS (DELETE\tFROM trade RETURNING *) SELECT * FROM gone", True),
        ('WITH a AS (SELECT 1) UPDATE"trade"SET pnl = 1', True),
        ('WITH a AS (SELECT 1) DELETE/**/FROM"trade"', True),
        ('WITH a AS (SELECT 1) INSERT -- b\nINTO"trade" SELECT 1', True),
        ("WITH a AS (SELECT 1) REPLACE INTO trade SELECT 1", True),
        ('WITH "a" AS (SELECT 1 AS "update") SELECT "update", updated_at FROM "a"', False),
        ("WITH a AS (SELECT 1) SELECT replace('a', 'b', 'c'), 'DELETE' FROM a", False),
        ('SELECT "id" FROM "trade"', False),
        ('CREATE INDEX "a" ON "trade" ("id")', False),
        ('SAVEPOINT "s0"', False),
        ("", False),
    ],
)
def test_whether_a_statement_changes_rows_is_seen_in_it(sql: str, expected: bool) -> None:
    assert changes_rows(sql) is expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ('SELECT "id" FROM "trade"', True),
        ("\n  select id from trade", True),
        ("-- of all\nSelect id from trade", True),
        ('(SELECT "id" FROM "trade") UNION (SELECT 1)', True),
        ("( /* a */ (select 1)) union select 2", True),
        ("VALUES (1)", True),
        ('WITH "a" AS (SELECT 1) SELECT * FROM "a"', True),
        ('WITH "a" AS (SELECT 1) UPDATE "trade" SET "pnl" = %s', False),
        ('INSERT INTO "trade" ("id") VALUES (%s)', False),
        ("PRAGMA journal_mode = wal", False),
        ("EXPLAIN SELECT 1", False),
        ("", False),
    ],
)
def test_whether_a_statement_only_selects_is_seen_in_it(sql: str, expected: bool) -> None:
    assert only_selects(sql) is expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("BEGIN", True),
        ("  begin immediate", True),
        ("START TRANSACTION", True),
        ("/* a */ savepoint b", True),
        ("COMMIT", False),
        ('ROLLBACK TO SAVEPOINT "s0"', False),
        ("UPDATE trade SET symbol = 'BEGIN'", False),
    ],
)
def test_whether_a_statement_begins_a_transaction_is_seen_in_it(sql: str, expected: bool) -> None:
    assert begins_transaction(sql) is expected
