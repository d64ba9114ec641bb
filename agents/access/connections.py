"""Describes a broker's own connections for health, metrics and a job's queues.

A broker that cannot tell need not have it.
"""

from typing import Protocol, runtime_checkable


@runtime_checkable
class BrokerLink(Protocol):
    """Describes a broker that can tell the state of its connections."""

    @property
    def connected(self) -> bool:
        """Tell whether all of the party's connections stand."""

    @property
    def reconnects(self) -> int:
        """Number of times a connection has come back since the first."""

    @property
    def dead_letter_count(self) -> int:
        """Number of refused messages that are kept as dead letters."""

    def consuming(self, queue_name: str) -> bool:
        """Tell whether deliveries of a queue come through now."""
