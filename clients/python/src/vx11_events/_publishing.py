"""Publishing one event once: failed attempts are repeated under the same idempotency key."""

import asyncio
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from ._backoff import LONGEST_WAIT, Backoff
from ._errors import OutcomeUnknownError, PublishError
from ._http import PUBLISH_PATH, exchange, parse_object, problem

_ATTEMPT = 10.0
"""Deadline of an attempt, in seconds."""
_BACKOFF = (0.25, 5.0)
MOST_PATIENCE = 600.0
"""The service remembers a key for 15 minutes; repeating for longer could publish twice."""
_PASSING = {408, 429, 502, 503, 504}
"""Statuses after which the same request may succeed later."""
_NOT_PUBLISHED = "log_unavailable"
"""Code of the only server error that says that nothing was published; a proxy may send others."""


@dataclass(frozen=True, slots=True)
class Published:
    """A published event."""

    id: str
    earlier: bool
    """Whether an earlier attempt under this key had published it."""


@dataclass(frozen=True, slots=True)
class _Failure:
    text: str
    status: int = 0
    code: str = ""
    retry_after: float = 0.0
    is_passing: bool = True
    may_have_published: bool = True


def event_body(data: object, event: str | None, topic: str | Sequence[str] | None) -> bytes:
    body: dict[str, Any] = {}
    if event is not None:
        body["event"] = event
    if isinstance(topic, str):
        body["topic"] = topic
    elif topic is not None:
        if not topic:
            raise ValueError("topic is an empty list")
        body["topics"] = list(topic)
    body["data"] = data
    return json.dumps(body, allow_nan=False, ensure_ascii=False).encode()


class Publisher:
    """Publishes with the credential of a principal."""

    def __init__(self, http: httpx.AsyncClient, url: str, principal: Mapping[str, str]) -> None:
        self._http = http
        self._url = url + PUBLISH_PATH
        self._headers = {**principal, "Content-Type": "application/json"}

    async def publish(self, body: bytes, key: str | None, patience: float) -> Published:
        """Repeats until an attempt succeeds or fails for good, or until patience ends.

        The last attempt begins at that time, unless one is in progress or the service asks for a
        longer wait.
        """
        if not 0 <= patience <= MOST_PATIENCE:
            raise ValueError(f"patience has to be 0 to {MOST_PATIENCE:g} seconds")
        key = str(uuid.uuid4()) if key is None else key
        deadline = time.monotonic() + patience
        backoff = Backoff(*_BACKOFF)
        doubt: _Failure | None = None
        is_last = patience == 0
        while True:
            left = deadline - time.monotonic()
            result = await self._attempt(body, key, _ATTEMPT if is_last else min(left, _ATTEMPT))
            if isinstance(result, Published):
                return result
            left = deadline - time.monotonic()
            asked = min(result.retry_after, LONGEST_WAIT)
            if result.may_have_published:
                doubt = result
            if is_last or not result.is_passing or left <= 0 or asked > left:
                raise _error(result, doubt, key)
            wait = backoff.next_after(asked)
            is_last = wait >= left
            await asyncio.sleep(min(wait, left))

    async def _attempt(self, body: bytes, key: str, timeout: float) -> Published | _Failure:
        headers = {**self._headers, "Idempotency-Key": key}
        request = self._http.build_request("POST", self._url, headers=headers, content=body)
        try:
            answer = await exchange(self._http, request, timeout)
        except TimeoutError:
            return _Failure(f"no answer within {timeout:.1f} s")
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return _Failure(f"cannot connect: {error}", may_have_published=False)
        except httpx.TransportError as error:
            return _Failure(f"the connection was lost: {error}")
        if answer.status == httpx.codes.ACCEPTED:
            event_id = parse_object(answer.body).get("id")
            if isinstance(event_id, str):
                return Published(event_id, answer.headers.get("Idempotent-Replayed") == "true")
        if answer.status < httpx.codes.MULTIPLE_CHOICES:
            return _Failure("the answer is not that of this service", is_passing=False)
        facts = problem(answer.status, answer.headers, answer.body)
        is_server_error = facts.status >= httpx.codes.INTERNAL_SERVER_ERROR
        return _Failure(
            str(facts),
            status=facts.status,
            code=facts.code,
            retry_after=facts.retry_after,
            is_passing=facts.status in _PASSING,
            # If nginx had sent the request to another instance before, a refusal says nothing
            # about that one.
            may_have_published=facts.asked_before
            or (is_server_error and facts.code != _NOT_PUBLISHED),
        )


def _error(last: _Failure, doubt: _Failure | None, key: str) -> PublishError:
    if doubt is None:
        message = f"not published: {last.text}"
        return PublishError(message, key=key, status=last.status, code=last.code)
    message = f"not known whether it was published: {doubt.text}"
    if doubt is not last:
        message += f"; the last attempt did not: {last.text}"
    return OutcomeUnknownError(message, key=key, status=last.status, code=last.code)
