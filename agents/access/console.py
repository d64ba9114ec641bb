"""Asks a party's own agent through its standing queue, for `tercet job`.

It holds the party's key, as the agent does, and speaks to nobody else.
"""

import asyncio
import secrets
from typing import Self

from tercet.agents.access.console_client import ANSWER_SECONDS, ConsoleClient, Request
from tercet.agents.access.no_agent import NoAgent
from tercet.agents.messaging.control import control_envelope, open_control, publish_within
from tercet.broker.interface import topology
from tercet.broker.interface.base import Blocked, Broker, Delivery
from tercet.broker.sealing.identity import Forged, Identity
from tercet.schemas.messages.address import Address, MalformedAddress, Round, parse_address
from tercet.schemas.messages.codec import MalformedMessage
from tercet.schemas.messages.kinds import Status


class BrokerConsole(ConsoleClient):
    """Holds one conversation through the broker. Use as an async context manager."""

    def __init__(self, party: str, identity: Identity, broker: Broker) -> None:
        self._party, self._identity, self._broker = party, identity, broker
        self._token = f"console-{secrets.token_hex(4)}"
        self._answer: asyncio.Future[Status] | None = None
        self._request_number = 0  # the number of the pending question, or of the last

    async def __aenter__(self) -> Self:
        queue = topology.console_queue(self._party, self._token)
        await self._broker.declare(queue)
        await self._broker.consume(queue.name, self._handle_delivery, topology.lane(Round.CONTROL))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._broker.close()

    async def _handle_delivery(self, delivery: Delivery) -> None:
        try:
            address = parse_address(delivery.envelope.address)
            message = open_control(delivery.envelope, self._identity, self._identity.public)
        except (MalformedAddress, MalformedMessage, Forged) as error:
            await delivery.reject(str(error))  # not from our agent; its answer may still come
            return
        await delivery.ack()
        # An answer to an earlier question, or to another console, is our agent's too, and the broker may repeat it.
        asked = (address.job, address.step) == (self._token, self._request_number)
        if isinstance(message, Status) and asked and self._answer is not None and not self._answer.done():
            self._answer.set_result(message)

    async def _send_request(self, request: Request) -> Status:
        self._request_number += 1
        self._answer = asyncio.get_running_loop().create_future()
        address = Address(
            self._token, 0, Round.CONTROL, request.item, 0, self._request_number, self._party, self._party
        )
        key = topology.announce_key(self._token, self._party)
        envelope = control_envelope(
            request, address, self._identity, self._identity.public, routing_key=key, expires=ANSWER_SECONDS
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await publish_within(self._broker, envelope, ANSWER_SECONDS)
                return await self._answer
        except TimeoutError:
            if self._broker.blocked:
                raise Blocked(self._broker.blocked) from None
            raise NoAgent(
                f"{self._party}'s agent does not answer; start it with `tercet agent` and the same settings file, "
                f"or look at its log"
            ) from None
