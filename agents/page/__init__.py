"""Serves an agent's page to named persons: logins, jobs, decisions, tables, partners, log."""
