"""Frozen test vectors: inputs and outputs of all that parties must compute alike or read again from a disk.

`make vectors` writes the files anew. Whatever changes in them is a change of the protocol or of a stored format: raise
the version that belongs to it, refuse the old one in a plain sentence, and say so in CHANGELOG.md.
"""
