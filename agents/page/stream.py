"""Sends a part of a page again whenever it has changed, as server-sent events.

A stream ends after some minutes, when its session is over, and when the agent leaves; the browser asks again.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tercet.agents.daemon.http_server import DEADLINE

TICK_SECONDS: Final = 1.0
STREAM_SECONDS: Final = 300.0
QUIET_TICKS: Final = 15  # after which a word is sent that says nothing
MOST_STREAMS: Final = 8  # so that there is always a connection for a page


class Part(NamedTuple):
    """Holds a part of a page; with another `stamp` the rest of the page is old, too."""

    html: str
    stamp: str = ""


class Streams:
    """Serves all streams of one page."""

    def __init__(self) -> None:
        self.open = 0

    def serve(self, render: Callable[[], Part], may_look: Callable[[], bool]) -> Response:
        """Make a stream; `may_look` is asked before each part of it."""
        return CountedStream(self, events(render, may_look), media_type="text/event-stream")


class CountedStream(StreamingResponse):
    """Sends a stream, if there are not too many.

    It checks and counts in one step, before its first byte.
    """

    def __init__(self, streams: Streams, content: AsyncIterator[str], **kwargs: Any) -> None:
        super().__init__(content, **kwargs)
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it.

        Raises:
            HTTPException: there are too many.
        """
        if self._streams.open >= MOST_STREAMS:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE)
        self._streams.open += 1
        try:
            scope[DEADLINE](STREAM_SECONDS + 2 * TICK_SECONDS)
            await super().__call__(scope, receive, send)
        finally:
            self._streams.open -= 1


async def events(render: Callable[[], Part], may_look: Callable[[], bool]) -> AsyncIterator[str]:
    """Yield an event for each change, until the reader may look no more."""
    shown, quiet = None, 0
    loop = asyncio.get_running_loop()
    until = loop.time() + STREAM_SECONDS
    while loop.time() < until:
        if not may_look():
            yield "event: over\ndata:\n\n"
            return
        part = render()
        if part != shown:
            shown, quiet = part, 0
            yield f"event: update\ndata: {json.dumps(part._asdict())}\n\n"
        elif quiet == QUIET_TICKS:
            quiet = 0
            yield ":\n\n"
        quiet += 1
        await asyncio.sleep(TICK_SECONDS)
