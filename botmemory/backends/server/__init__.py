"""The backends of PostgreSQL and of CockroachDB, which speaks its protocol."""
