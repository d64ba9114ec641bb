"""Makes a party's heartbeat."""

from typing import NamedTuple

from tercet.agents.machine.machine import RunMachine
from tercet.schemas.messages.kinds import Progress


class Position(NamedTuple):
    """Says how far an attempt has come."""

    epoch: int = 0
    step: int = 0
    steps: int = 0
    checkpoint: int = 0


def make_heartbeat(machine: RunMachine, position: Position) -> Progress:
    """Make the heartbeat of a machine's party, whose attempt has come so far."""
    return Progress(
        state=machine.state,
        epoch=position.epoch,
        step=position.step,
        steps=position.steps,
        stage=machine.wait.stage[:64],
        waits_for=machine.wait.waits_for,
        interval=machine.config.deadlines.heartbeat,
        overdue=machine.peers.overdue.get(machine.config.me),
        checkpoint=position.checkpoint,
        helper=machine.attempts.helper,
        lost=machine.is_abandoned,
    )
