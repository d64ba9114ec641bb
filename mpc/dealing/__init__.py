"""Deals randomness as a helper that sees nothing, and checks what it has dealt."""
