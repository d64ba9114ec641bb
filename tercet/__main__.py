"""`python -m tercet` is `tercet`, where the command itself is not on the path."""

from tercet.agents.cli.app import main

main()
