"""Trains in plaintext: the oracle, which the joint run equals bit for bit."""
