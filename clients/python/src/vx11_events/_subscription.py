"""A subscription: one stream at a time, for ever, by the rules of the browser client."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Self

from ._connection import Connector, LostError
from ._ends import Ends
from ._messages import Message, Waiting
from ._reception import Reception, SentAwayError

logger = logging.getLogger("vx11_events")


class AsyncSubscription:
    """Asynchronous iterator of messages. Ends with `aclose()`, or raises when it ends for good.

    Cancel safety: a wait for the next message can be cancelled without losing a message.
    """

    def __init__(self, connector: Connector, ends: Ends, last_event_id: str) -> None:
        self._connector = connector
        self._ends = ends
        self._reception = Reception(last_event_id)
        self._messages = self._follow()
        # The wait for the next message; it outlives a cancelled call.
        self._pull: asyncio.Task[Message] | None = None
        self._is_closed = False

    @property
    def last_event_id(self) -> str:
        """Position after which the next connection resumes: of an event or a later heartbeat."""
        return self._reception.last_event_id

    @property
    def instance_id(self) -> str:
        """Instance that serves the stream, or served it last."""
        return self._reception.instance_id

    @property
    def degraded(self) -> str:
        """Reason why the open stream delivers no events at present; `""` if it delivers them."""
        return self._reception.degraded

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """Returns the next message.

        Raises `UnauthorizedError`, `ForbiddenError`, `InvalidError` or `ReplacedError` when the
        subscription ends for good.
        """
        if self._is_closed:
            raise StopAsyncIteration
        pull = self._pull = self._pull or asyncio.create_task(self._next())
        try:
            return await asyncio.shield(pull)
        except asyncio.CancelledError:
            if self._is_closed and pull.cancelled():
                raise StopAsyncIteration from None
            raise
        finally:
            if pull.done():
                self._pull = None

    async def _next(self) -> Message:
        return await anext(self._messages)

    async def aclose(self) -> None:
        """Ends the stream for good. A wait for the next message ends, too."""
        self._is_closed = True
        if self._pull is not None:
            self._pull.cancel()
            await asyncio.gather(self._pull, return_exceptions=True)
        await self._messages.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _follow(self) -> AsyncGenerator[Message, None]:
        reception = self._reception
        while True:
            opened_at: float | None = None
            try:
                async with self._connector.open(reception.last_event_id) as frames:
                    async for frame in frames:
                        for message in reception.receive(frame):
                            opened_at = opened_at or time.monotonic()
                            yield message
                raise LostError("cut")
            except (SentAwayError, LostError) as error:
                reception.end()
                lasted = None if opened_at is None else time.monotonic() - opened_at
                waiting = self._ends.after(error, lasted)
            _log(waiting)
            yield waiting
            await asyncio.sleep(waiting.delay)


def _log(waiting: Waiting) -> None:
    """Logs each wait, because an application may ignore the message. No text is a secret."""
    logger.log(
        logging.INFO if waiting.by_server else logging.WARNING,
        "no stream: %s%s%s; again in %.1f s",
        waiting.cause,
        f" {waiting.status}" if waiting.status else "",
        f" {type(waiting.error).__name__}" if waiting.error else "",
        waiting.delay,
    )
