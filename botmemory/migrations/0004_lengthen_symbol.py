"""Allow symbols of 64 characters, such as BTC/USDT:USDT-250328-100000-C."""

from peewee import CharField, Check, SqliteDatabase, Table


def up(migrator, db):
    change_length(migrator, db, 20, 64)


def down(migrator, db):
    change_length(migrator, db, 64, 20)  # a longer symbol violates the check constraint


def change_length(migrator, db, before, after):
    def condition(longest):
        return f"length(symbol) BETWEEN 1 AND {longest} AND symbol = trim(symbol)"

    for table in ("signal", "trade"):
        if isinstance(db, SqliteDatabase):
            rebuild(
                db,
                table,
                (f'"symbol" VARCHAR({before})', f'"symbol" VARCHAR({after})'),
                (condition(before), condition(after)),
            )
            continue
        name = f"{table}_symbol_check"
        migrator.migrate(
            migrator.drop_constraint(table, name),
            migrator.alter_column_type(table, "symbol", CharField(max_length=after)),
            migrator.add_constraint(table, name, Check(condition(after))),
        )


def rebuild(db, table, *changes):
    """Replace text in the CREATE of a table; keep its rows, indexes, triggers and sequence."""
    master = Table("sqlite_master", ["type", "name", "tbl_name", "sql"]).bind(db)
    dependent = master.select(master.sql).where(
        master.tbl_name == table, master.type.in_(["index", "trigger"]), master.sql.is_null(False)
    )
    recreate = [sql for (sql,) in dependent.tuples()]
    [(create,)] = master.select(master.sql).where(master.name == table).tuples()
    for old, new in (*changes, (f'CREATE TABLE "{table}"', f'CREATE TABLE "{table}_new"')):
        if create.count(old) != 1:
            raise ValueError(f"the table {table} was changed: {old!r} is not once in {create!r}")
        create = create.replace(old, new)
    sequence = Table("sqlite_sequence", ["name", "seq"]).bind(db)
    last = list(sequence.select(sequence.seq).where(sequence.name == table).tuples())

    db.execute_sql(create)
    columns = [column.name for column in db.get_columns(table)]
    old, new = Table(table, columns).bind(db), Table(f"{table}_new", columns).bind(db)
    fields = [getattr(old, name) for name in columns]
    new.insert(old.select(*fields), columns=[getattr(new, name) for name in columns]).execute()
    # tables, views and triggers that refer to the table go on referring to its name
    db.pragma("legacy_alter_table", 1)
    try:
        db.execute_sql(f'DROP TABLE "{table}"')
        db.execute_sql(f'ALTER TABLE "{table}_new" RENAME TO "{table}"')
    finally:
        db.pragma("legacy_alter_table", 0)
    for sql in recreate:
        db.execute_sql(sql)
    for (seq,) in last:  # so that the ids of deleted rows are not reused
        sequence.delete().where(sequence.name == table).execute()
        sequence.insert(name=table, seq=seq).execute()
