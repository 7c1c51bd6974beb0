"""The schema: its migrations, what they would do, and how tables differ from the models."""
