"""Takes a snapshot of a table: chooses columns, checks, records and stores them."""
