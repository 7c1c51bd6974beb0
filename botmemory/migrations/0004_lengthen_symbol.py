"""Make room for the symbols of derivatives, such as BTC/USDT:USDT-250328-100000-C."""

from peewee import CharField, Check, SqliteDatabase, Table


def up(migrator, db):
    allow(migrator, db, 20, 64)


def down(migrator, db):
    allow(migrator, db, 64, 20)  # refused by the rule where there is a longer one


def allow(migrator, db, before, after):
    def rule(longest):
        return f"length(symbol) BETWEEN 1 AND {longest} AND symbol = trim(symbol)"

    for table in ("signal", "trade"):
        if isinstance(db, SqliteDatabase):
            rebuild(
                db,
                table,
                (f'"symbol" VARCHAR({before})', f'"symbol" VARCHAR({after})'),
                (rule(before), rule(after)),
            )
            continue
        name = f"{table}_symbol_check"
        migrator.migrate(
            migrator.drop_constraint(table, name),
            migrator.alter_column_type(table, "symbol", CharField(max_length=after)),
            migrator.add_constraint(table, name, Check(rule(after))),
        )


def rebuild(db, table, *changes):
    """Make a table anew with another text, and keep all that it holds and all that is on it."""
    master = Table("sqlite_master", ["type", "name", "tbl_name", "sql"]).bind(db)
    on_it = master.select(master.sql).where(
        master.tbl_name == table, master.type.in_(["index", "trigger"]), master.sql.is_null(False)
    )
    made = [sql for (sql,) in on_it.tuples()]
    [(text,)] = master.select(master.sql).where(master.name == table).tuples()
    for old, new in (*changes, (f'CREATE TABLE "{table}"', f'CREATE TABLE "{table}_new"')):
        if text.count(old) != 1:
            raise ValueError(f"the table {table} is not as it was made: {old!r} is not in {text!r}")
        text = text.replace(old, new)
    counted = Table("sqlite_sequence", ["name", "seq"]).bind(db)
    last = list(counted.select(counted.seq).where(counted.name == table).tuples())

    db.execute_sql(text)
    columns = [column.name for column in db.get_columns(table)]
    old, new = Table(table, columns).bind(db), Table(f"{table}_new", columns).bind(db)
    fields = [getattr(old, name) for name in columns]
    new.insert(old.select(*fields), columns=[getattr(new, name) for name in columns]).execute()
    # what refers to the table goes on to refer to its name
    db.pragma("legacy_alter_table", 1)
    try:
        db.execute_sql(f'DROP TABLE "{table}"')
        db.execute_sql(f'ALTER TABLE "{table}_new" RENAME TO "{table}"')
    finally:
        db.pragma("legacy_alter_table", 0)
    for sql in made:
        db.execute_sql(sql)
    for (seq,) in last:  # the id of a row that was deleted is never given again
        counted.delete().where(counted.name == table).execute()
        counted.insert(name=table, seq=seq).execute()
