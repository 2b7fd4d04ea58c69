"""The asynchronous client, on asyncio."""

import ssl
import weakref
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from ._backoff import Backoff
from ._connection import Connector, SubscriptionOptions
from ._ends import Ends
from ._http import base_url, new_http, secret_header
from ._issuing import Grant, Token, TokenSource, issue
from ._publishing import Published, Publisher, event_body
from ._subscription import AsyncSubscription

_ISSUING = 15.0
"""Deadline of a token, in seconds."""


class AsyncClient:
    """Calls one service. `url` may have a path; `principal` is the credential of a principal."""

    def __init__(
        self, url: str, principal: str | None = None, *, verify: ssl.SSLContext | bool = True
    ) -> None:
        self._url = base_url(url)
        self._credential = None if principal is None else secret_header(principal, "principal")
        self._http = new_http(verify)
        self._subscriptions: weakref.WeakSet[AsyncSubscription] = weakref.WeakSet()

    def _principal(self) -> dict[str, str]:
        if self._credential is None:
            raise ValueError("this needs the credential of a principal")
        return self._credential

    async def issue(
        self,
        *,
        subject: str | None = None,
        topics: Sequence[str] | None = None,
        expires_in: int | None = None,
        stream_until: datetime | None = None,
        single_use: bool = False,
    ) -> Token:
        """Issues a stream token. Asks once, and raises `IssueError`.

        Without a field the token is plain: it reads the topic `default`.
        """
        grant = Grant(subject, topics, expires_in, stream_until, single_use)
        return await issue(self._http, self._url, self._principal(), grant, _ISSUING)

    async def publish(
        self,
        data: object,
        *,
        event: str | None = None,
        topic: str | Sequence[str] | None = None,
        key: str | None = None,
        patience: float = 30.0,
    ) -> Published:
        """Publishes one event once, and returns when the service has stored it.

        `data` is anything that `json.dumps` takes. `topic` is one topic, or a list of up to 16.
        Failed attempts are repeated under one idempotency key, `key` or a random one, for
        `patience` seconds (0 to 600). Raises `OutcomeUnknownError` if an attempt may have
        published the event, otherwise `PublishError`.
        """
        publisher = Publisher(self._http, self._url, self._principal())
        return await publisher.publish(event_body(data, event, topic), key, patience)

    def subscribe(
        self,
        *,
        topics: Sequence[str] | None = None,
        last_event_id: str = "",
        from_: str | None = None,
        issue_token: TokenSource | None = None,
        min_backoff: float = 0.5,
        max_backoff: float = 30.0,
        timeout: float = 15.0,
        silence: float = 40.0,
    ) -> AsyncSubscription:
        """Opens a stream and keeps it open: an asynchronous iterator of messages.

        Each connection has a new token, which the principal issues for `topics`, or which
        `issue_token` gets from elsewhere. If `issue_token` raises an error with a `status` of 401
        or 403, the subscription ends; `retry_after` is the shortest wait.

        `topics` are 1 to 16 patterns. The stream resumes after `last_event_id`; without it, `from_`
        is `"start"` or `"-N"` for events that the log still has.

        Times are in seconds. Waits are random up to a bound, which begins with `min_backoff` and
        doubles up to `max_backoff`. `timeout` is the deadline for a token, and again for the first
        frame. After `silence` without a byte a stream counts as dead; that has to be longer than
        the heartbeat interval of the service, 15 s.
        """
        options = SubscriptionOptions(
            topics, last_event_id, from_, min_backoff, max_backoff, timeout, silence
        )
        source = issue_token or self._issuing(topics, timeout)
        subscription = AsyncSubscription(
            Connector(self._http, self._url, source, options),
            Ends(Backoff(min_backoff, max_backoff), asks_as_principal=issue_token is None),
            last_event_id,
        )
        self._subscriptions.add(subscription)
        return subscription

    def _issuing(self, topics: Sequence[str] | None, timeout: float) -> TokenSource:
        principal, grant = self._principal(), Grant(topics=topics)

        async def issued() -> Token:
            return await issue(self._http, self._url, principal, grant, timeout)

        return issued

    async def aclose(self) -> None:
        """Ends all subscriptions and connections."""
        for subscription in list(self._subscriptions):
            await subscription.aclose()
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
