"""Defines each kind of message as a strict model, and their wire format."""
