"""Trains models step by step over the mailbox, and evaluates them between epochs."""
