"""Tests of the mathematics; they see what no party may."""
