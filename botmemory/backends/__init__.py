"""What talks to a database: one package for each engine, and what they share."""
