"""HTTP calls: addresses, headers, answers of a bounded size, and problem documents (RFC 9457)."""

import asyncio
import json
import re
import ssl
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

ISSUE_PATH = "/operator/api/events/sse-token"
STREAM_PATH = "/operator/api/events/stream"
PUBLISH_PATH = "/operator/api/events"

LARGEST_ANSWER = 64 * 1024
"""Largest answer in bytes that is not a stream."""
_CONNECT_TIMEOUT = 5.0
"""Shorter than an attempt, so that a failure to connect is known as such: nothing was sent."""
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was read to its end."""

    status: int
    headers: httpx.Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Problem:
    """Facts about an answer that is no success."""

    status: int
    code: str
    detail: str
    request_id: str
    retry_after: float
    asked_before: bool
    """nginx had sent the request to another instance before."""

    def __str__(self) -> str:
        code = f" {self.code}" if self.code else ""
        return f"{self.status}{code}: {self.detail}"


def new_http(verify: ssl.SSLContext | bool) -> httpx.AsyncClient:
    # Callers have deadlines for whole exchanges. Each subscription holds a connection, so the pool
    # has no bound: a full one would make publishing wait for a stream to end.
    return httpx.AsyncClient(
        verify=verify,
        timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=10),
        headers={"Accept-Encoding": "identity"},
    )


def base_url(url: str) -> str:
    """Returns the address of the service without a slash at the end."""
    parsed = httpx.URL(url)
    if parsed.scheme not in {"http", "https"} or not parsed.host or parsed.query or parsed.fragment:
        raise ValueError("url has to be http:// or https:// with a host, and without a query")
    return str(parsed).rstrip("/")


def secret_header(secret: str, name: str) -> dict[str, str]:
    """Returns the header of a credential or token. The error does not repeat it."""
    if not _VISIBLE_ASCII.fullmatch(secret):
        raise ValueError(f"{name} is empty, or has characters that a header cannot carry")
    return {"X-VX11-Token": secret}


async def exchange(http: httpx.AsyncClient, request: httpx.Request, timeout: float) -> Answer:
    """Sends a request and reads the answer. Raises `TimeoutError` or `httpx.TransportError`."""
    async with asyncio.timeout(timeout):
        response = await http.send(request, stream=True)
        try:
            return Answer(response.status_code, response.headers, await read_bounded(response))
        finally:
            await response.aclose()


async def read_bounded(response: httpx.Response) -> bytes:
    """Reads the body; of a larger one than any answer of the service, only the beginning."""
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > LARGEST_ANSWER:
            break
    return bytes(body[:LARGEST_ANSWER])


def problem(status: int, headers: httpx.Headers, body: bytes) -> Problem:
    """Reads an answer that is no success, whoever sent it."""
    facts = parse_object(body)

    def text(name: str) -> str:
        value = facts.get(name)
        return value if isinstance(value, str) else ""

    content_type = headers.get("Content-Type", "no content type")
    return Problem(
        status=status,
        code=text("code"),
        detail=text("detail") or text("title") or f"an answer with {content_type}",
        request_id=text("request_id"),
        retry_after=retry_after(headers.get("Retry-After", "")),
        asked_before="X-VX11-Asked-Before" in headers,
    )


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Parses a JSON object; anything else is an empty one."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def retry_after(value: str) -> float:
    """Returns the seconds from now until a Retry-After: seconds or a date (RFC 9110 §10.2.3)."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
