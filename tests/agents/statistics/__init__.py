"""Tests of statistics jobs."""
