"""Decides what a party does about one run, as a pure machine: events in, actions out."""
