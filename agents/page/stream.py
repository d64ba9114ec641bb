"""Sends a part of a page again whenever it has changed, as server-sent events.

A stream ends after some minutes, when its session is over, and when the agent leaves; the browser asks again.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Final, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

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
        self._open = 0

    def serve(self, request: Request, render: Callable[[], Part], may_look: Callable[[], bool]) -> Response:
        """Begin a stream; `may_look` is asked before each part of it.

        Raises:
            HTTPException: there are too many.
        """
        if self._open >= MOST_STREAMS:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE)
        request.scope[DEADLINE](STREAM_SECONDS + 2 * TICK_SECONDS)
        return StreamingResponse(self._counted(render, may_look), media_type="text/event-stream")

    async def _counted(self, render: Callable[[], Part], may_look: Callable[[], bool]) -> AsyncIterator[str]:
        self._open += 1
        try:
            async for event in events(render, may_look):
                yield event
        finally:
            self._open -= 1


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
