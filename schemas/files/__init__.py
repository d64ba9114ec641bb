"""Reads what a person writes: job, settings, policy; says what is wrong in them."""
