"""Opens a party's own things: identity, broker, tables, settings, console."""
