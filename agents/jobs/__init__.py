"""Keeps all jobs of one agent: registry, records, requests, approvals, removal."""
