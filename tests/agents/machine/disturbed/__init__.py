"""Runs the machines of all parties of a job against each other in virtual time, over a broker that misbehaves."""
