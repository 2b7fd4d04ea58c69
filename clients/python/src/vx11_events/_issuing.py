"""Tokens: issuing them, and finding them in the result of a caller's `issue_token`."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from ._errors import IssueError
from ._http import ISSUE_PATH, exchange, parse_object, problem, secret_header

MOST_TOPICS = 16


@dataclass(frozen=True, slots=True)
class Token:
    """A stream token. Its representation does not show the token."""

    sse_token: str = field(repr=False)
    token_id: str
    """Not secret."""
    expires_in: int
    """Life in seconds."""
    expires_at: str
    """RFC 3339."""
    answer: Mapping[str, Any] = field(repr=False)
    """The whole answer of the service, as a page's own backend passes it on."""


IssuedToken = str | Mapping[str, Any] | Token
"""Results of `issue_token`: the token, or an object that has it as `sse_token`."""
TokenSource = Callable[[], Awaitable[IssuedToken]]


@dataclass(frozen=True, slots=True)
class Grant:
    """Fields of a token. Without any the token is plain."""

    subject: str | None = None
    topics: Sequence[str] | None = None
    expires_in: int | None = None
    stream_until: datetime | None = None
    single_use: bool = False

    def body(self) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        if self.subject is not None:
            fields["subject"] = self.subject
        if self.topics is not None:
            fields["topics"] = checked_topics(self.topics)
        if self.expires_in is not None:
            fields["expires_in"] = self.expires_in
        if self.stream_until is not None:
            if self.stream_until.tzinfo is None:
                raise ValueError("stream_until needs a time zone")
            fields["stream_until"] = self.stream_until.isoformat()
        if self.single_use:
            fields["single_use"] = True
        return fields


def checked_topics(topics: Sequence[str]) -> list[str]:
    # No pattern at all would open a stream of everything that is granted.
    if isinstance(topics, str) or not 1 <= len(topics) <= MOST_TOPICS:
        raise ValueError(f"topics has to be a list of 1 to {MOST_TOPICS} patterns")
    return list(topics)


async def issue(
    http: httpx.AsyncClient, url: str, principal: Mapping[str, str], grant: Grant, timeout: float
) -> Token:
    """Asks once. Raises `IssueError`."""
    body = grant.body()
    request = http.build_request(
        "POST",
        url + ISSUE_PATH,
        headers={**principal, "Accept": "application/json"}
        | ({"Content-Type": "application/json"} if body else {}),
        content=json.dumps(body) if body else None,
    )
    try:
        answer = await exchange(http, request, timeout)
    except TimeoutError:
        raise IssueError(f"no answer within {timeout:g} s", code="timeout") from None
    except httpx.TransportError as error:
        raise IssueError(f"no answer: {type(error).__name__}: {error}", code="network") from error
    if answer.status != httpx.codes.OK:
        facts = problem(answer.status, answer.headers, answer.body)
        raise IssueError(
            str(facts),
            status=facts.status,
            code=facts.code,
            request_id=facts.request_id,
            retry_after=facts.retry_after,
        )
    return _token(parse_object(answer.body))


def _token(answer: dict[str, Any]) -> Token:
    token, life = answer.get("sse_token"), answer.get("expires_in")
    if not isinstance(token, str) or not isinstance(life, int):
        raise IssueError("the answer is not that of this service", code="no_token")
    return Token(token, str(answer.get("token_id")), life, str(answer.get("expires_at")), answer)


async def header_of(source: TokenSource, timeout: float) -> dict[str, str]:
    """Gets a token from its source. Raises whatever that raises, or `IssueError`."""
    try:
        async with asyncio.timeout(timeout):
            issued = await source()
    except TimeoutError:
        raise IssueError("no token within the time allowed", code="timeout") from None
    token: object = issued
    if isinstance(issued, Token):
        token = issued.sse_token
    elif isinstance(issued, Mapping):
        token = issued.get("sse_token")
    if not isinstance(token, str):
        raise IssueError("issue_token returned no token and no sse_token", code="no_token")
    try:
        return secret_header(token, "the token")
    except ValueError as error:
        raise IssueError(str(error), code="no_token") from None
