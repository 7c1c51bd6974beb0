"""The schema: its migrations, a plan of them, and the drift between tables and models."""
