"""Runs the command line: one module for each group of commands, rendering, and the demo."""
