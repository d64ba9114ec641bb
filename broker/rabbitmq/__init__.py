"""Keeps the broker's promises on RabbitMQ; writes and probes its rights."""
