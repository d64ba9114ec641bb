"""Decides what this party allows, tells what a job discloses, and logs the evidence."""
