"""Decides: the daemon, each job's state, the roles, the model parts and the command line.

This is the only room that may use all the others; the mathematics and the transport stay in theirs.
"""
