"""Seals outgoing messages; opens incoming ones and buffers them for the roles."""
