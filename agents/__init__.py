"""Who decides: the daemon, the state of each job, the two roles, the model parts and the command line.

This is the only room that may use all the others; the mathematics and the transport stay in theirs.
"""
