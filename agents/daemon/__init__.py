"""Runs the agent's process: its queue, its socket, its monitor, its service manager."""
