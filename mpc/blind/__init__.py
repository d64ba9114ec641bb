"""Trains with a helper that deals randomness and receives nothing."""
