"""Serves all rooms: problems, job states, error codes, logs, private files."""
