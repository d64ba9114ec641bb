"""Serves all rooms of tables: the batch type, values, problems, durable files."""
