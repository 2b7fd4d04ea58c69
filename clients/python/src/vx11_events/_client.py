"""The synchronous client: the asynchronous one on a thread in the background.

So every rule is implemented once. httpx reads synchronously with one timeout for the whole body;
a stream needs another deadline for its first frame than for silence.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Self

from ._async_client import AsyncClient
from ._issuing import IssuedToken, Token, TokenSource
from ._messages import Message
from ._portal import Portal, PortalClosedError
from ._publishing import Published
from ._subscription import AsyncSubscription


class Subscription:
    """Iterator of messages. Ends with `close()`, or raises when it ends for good."""

    def __init__(self, portal: Portal, inner: AsyncSubscription) -> None:
        self._portal = portal
        self._inner = inner

    @property
    def last_event_id(self) -> str:
        """Position after which the next connection resumes: of an event or a later heartbeat."""
        return self._inner.last_event_id

    @property
    def instance_id(self) -> str:
        """Instance that serves the stream, or served it last."""
        return self._inner.instance_id

    @property
    def degraded(self) -> str:
        """Reason why the open stream delivers no events at present; `""` if it delivers them."""
        return self._inner.degraded

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        """Returns the next message.

        Raises `UnauthorizedError`, `ForbiddenError`, `InvalidError` or `ReplacedError` when the
        subscription ends for good.
        """
        try:
            message = self._portal.call(_next(self._inner))
        except PortalClosedError:
            message = None
        if message is None:
            raise StopIteration
        return message

    def close(self) -> None:
        """Ends the stream for good. Another thread that waits for a message gets the end, too."""
        with suppress(PortalClosedError):
            self._portal.call(self._inner.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Client:
    """Calls one service. `url` may have a path; `principal` is the credential of a principal.

    Threads may share a client. Processes may not: create it after a fork.
    """

    def __init__(
        self, url: str, principal: str | None = None, *, verify: ssl.SSLContext | bool = True
    ) -> None:
        self._inner = AsyncClient(url, principal, verify=verify)
        self._portal = Portal()

    def issue(
        self,
        *,
        subject: str | None = None,
        topics: Sequence[str] | None = None,
        expires_in: int | None = None,
        stream_until: datetime | None = None,
        single_use: bool = False,
    ) -> Token:
        """See `AsyncClient.issue`."""
        return self._portal.call(
            self._inner.issue(
                subject=subject,
                topics=topics,
                expires_in=expires_in,
                stream_until=stream_until,
                single_use=single_use,
            )
        )

    def publish(
        self,
        data: object,
        *,
        event: str | None = None,
        topic: str | Sequence[str] | None = None,
        key: str | None = None,
        patience: float = 30.0,
    ) -> Published:
        """See `AsyncClient.publish`."""
        return self._portal.call(
            self._inner.publish(data, event=event, topic=topic, key=key, patience=patience)
        )

    def subscribe(
        self,
        *,
        topics: Sequence[str] | None = None,
        last_event_id: str = "",
        from_: str | None = None,
        issue_token: Callable[[], IssuedToken] | None = None,
        min_backoff: float = 0.5,
        max_backoff: float = 30.0,
        timeout: float = 15.0,
        silence: float = 40.0,
    ) -> Subscription:
        """See `AsyncClient.subscribe`. `issue_token` is called on another thread."""
        source = None if issue_token is None else _on_a_thread(issue_token)

        async def subscribed() -> AsyncSubscription:
            # On the loop, which is the only thread that changes the inner client.
            return self._inner.subscribe(
                topics=topics,
                last_event_id=last_event_id,
                from_=from_,
                issue_token=source,
                min_backoff=min_backoff,
                max_backoff=max_backoff,
                timeout=timeout,
                silence=silence,
            )

        return Subscription(self._portal, self._portal.call(subscribed()))

    def close(self) -> None:
        """Ends all subscriptions and connections, and the thread."""
        with suppress(PortalClosedError):
            self._portal.call(self._inner.aclose())
        self._portal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


async def _next(subscription: AsyncSubscription) -> Message | None:
    async for message in subscription:
        return message
    return None


def _on_a_thread(issue_token: Callable[[], IssuedToken]) -> TokenSource:
    async def issued() -> IssuedToken:
        return await asyncio.to_thread(issue_token)

    return issued
