"""A job's queues at the broker: opened before a party says `ready`, gone when the job ends.

Names and bindings are the topology's; what arrives is the mailbox's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TypeVar

from broker import topology
from broker.base import Broker, BrokerError, Consumer, Handler
from schemas.settings import Settings

PAUSE_SECONDS = 0.25

T = TypeVar("T")


async def patiently(call: Callable[[], Awaitable[T]], seconds: float) -> T:
    """The call's result, after as many attempts as a broker that is briefly away takes.

    Raises:
        BrokerError: it refuses, or is still away after so many seconds.
    """
    end = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            return await call()
        except BrokerError as error:
            if not error.transient or asyncio.get_running_loop().time() > end:
                raise
        await asyncio.sleep(PAUSE_SECONDS)


async def open_queues(
    broker: Broker,
    settings: Settings,
    job: str,
    senders: Iterable[str],
    deliver: Handler,
    *,
    opened: list[Consumer],
    patience: float,
) -> None:
    """Declare and consume every queue that this party has for a job; each consumer is in `opened` as soon as it is.

    `patience`: seconds that the broker may be away.

    Raises:
        BrokerError: the broker refuses, or is away.
    """
    rounds = topology.ROUNDS[settings.role]
    queues = {round_: topology.job_queue(settings.party, job, round_, tuple(senders)) for round_ in rounds}
    await asyncio.gather(*(patiently(partial(broker.declare, queue), patience) for queue in queues.values()))
    for round_, queue in queues.items():
        opened.append(await patiently(partial(broker.consume, queue.name, deliver, topology.lane(round_)), patience))


async def clear_queues(broker: Broker, settings: Settings, job: str, patience: float) -> None:
    """Delete this party's queues of a job, with what is in them, if the broker is there within `patience` seconds.

    Raises:
        BrokerError: they may still be there.
    """
    names = [topology.job_queue_name(settings.party, job, round_) for round_ in topology.ROUNDS[settings.role]]
    await asyncio.gather(*(patiently(partial(broker.delete, name), patience) for name in names))
