"""`python -m agents` is `tercet`, where the command itself is not on the path."""

from agents.cli.app import main

main()
