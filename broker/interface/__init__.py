"""Promises what every broker keeps; names the topology; holds what both brokers share."""
