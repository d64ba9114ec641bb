"""The mathematics of joint training: words modulo 2^64, fixed point, keyed masks, the linear protocol, the oracle.

Nothing in here sends, stores, waits or logs, and nothing in here imports another room of the project.
"""
