"""What a broker may tell of its own connections, for health, metrics and a job's queues.

A broker that cannot tell need not have it.
"""

from typing import Protocol, runtime_checkable


@runtime_checkable
class BrokerLink(Protocol):
    """A broker that can tell how its connections are."""

    @property
    def connected(self) -> bool:
        """Whether all of the party's connections stand."""

    @property
    def reconnects(self) -> int:
        """How often a connection has come back since the first."""

    @property
    def buried(self) -> int:
        """How many messages that it has refused are kept as dead letters."""

    def consuming(self, queue_name: str) -> bool:
        """Whether deliveries of a queue come through now."""
