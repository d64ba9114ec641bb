"""Tests of the room agents/selection."""
