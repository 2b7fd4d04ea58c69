"""One connection: a new token, the stream that it opens, and its frames with their deadlines."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import httpx

from ._frames import Frame, FrameParser, NotAStreamError
from ._http import STREAM_PATH, problem, read_bounded
from ._issuing import TokenSource, checked_topics, header_of

_FROM = re.compile(r"start|-([1-9]\d{0,2}|1000)")
_STREAM_TYPE = re.compile(r"text/event-stream\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SubscriptionOptions:
    """See `AsyncClient.subscribe`. Times are in seconds."""

    topics: Sequence[str] | None
    last_event_id: str
    from_: str | None
    min_backoff: float
    max_backoff: float
    timeout: float
    silence: float

    def __post_init__(self) -> None:
        if self.topics is not None:
            checked_topics(self.topics)
        if self.from_ is not None and not _FROM.fullmatch(self.from_):
            raise ValueError('from_ has to be "start", or "-N" with N from 1 to 1000')


class LostError(Exception):
    """No stream, or none any more. The values are those of `Waiting`."""

    def __init__(
        self,
        cause: str,
        error: Exception | None = None,
        *,
        status: int = 0,
        code: str = "",
        retry_after: float = 0.0,
        detail: str = "",
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.error = error
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.detail = detail


class Connector:
    """Opens streams."""

    def __init__(
        self, http: httpx.AsyncClient, url: str, source: TokenSource, options: SubscriptionOptions
    ) -> None:
        self._http = http
        self._url = url + STREAM_PATH
        self._source = source
        self._options = options

    @asynccontextmanager
    async def open(self, last_event_id: str) -> AsyncIterator[AsyncIterator[Frame]]:
        """Yields the frames of a stream with a new token. Raises `LostError`, also in reading."""
        headers = await self._token()
        deadline = asyncio.get_running_loop().time() + self._options.timeout
        # No Accept for event streams: if it names them, proxies answer errors with status 200, as
        # an EventSource needs it.
        request = self._http.build_request(
            "GET", self._url, headers=headers, params=self._query(last_event_id)
        )
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._http.send(request, stream=True)
        except TimeoutError:
            raise LostError("silent") from None
        except httpx.TransportError as error:
            raise LostError("unreachable", error) from error
        try:
            if not _is_stream(response):
                raise await _refusal(response, deadline)
            async with aclosing(self._frames(response, deadline)) as frames:
                yield frames
        finally:
            await response.aclose()

    async def _token(self) -> dict[str, str]:
        try:
            return await header_of(self._source, self._options.timeout)
        except Exception as error:
            # The error may be any that a caller's issue_token raised.
            raise LostError(
                "issue",
                error,
                status=int(_number(error, "status")),
                code=str(getattr(error, "code", "")),
                retry_after=_number(error, "retry_after"),
            ) from error

    def _query(self, last_event_id: str) -> httpx.QueryParams:
        query: dict[str, str | list[str]] = {"topic": list(self._options.topics or ())}
        if last_event_id:
            # In the query, because an id may have any character.
            query["last_event_id"] = last_event_id
        elif self._options.from_:
            query["from"] = self._options.from_
        return httpx.QueryParams(query)

    async def _frames(
        self, response: httpx.Response, deadline: float
    ) -> AsyncGenerator[Frame, None]:
        """Yields frames until the stream ends. Any bytes, also a heartbeat, show that it lives."""
        parser = FrameParser()
        chunks = response.aiter_raw()
        clock = asyncio.get_running_loop().time
        is_open = False
        while True:
            try:
                limit = clock() + self._options.silence if is_open else deadline
                async with asyncio.timeout_at(limit):
                    chunk = await anext(chunks)
                frames = parser.push(chunk)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise LostError("silent") from None
            except (httpx.TransportError, NotAStreamError) as error:
                raise LostError("cut", error) from error
            for frame in frames:
                is_open = is_open or frame.data is not None
                yield frame


def _is_stream(response: httpx.Response) -> bool:
    return (
        response.status_code == httpx.codes.OK
        and _STREAM_TYPE.match(response.headers.get("Content-Type", "")) is not None
        and response.headers.get("Content-Encoding", "identity") == "identity"
    )


async def _refusal(response: httpx.Response, deadline: float) -> LostError:
    """Reads an answer that is no stream. Without a readable body it is still a refusal."""
    body = b""
    if not response.is_success:
        try:
            async with asyncio.timeout_at(deadline):
                body = await read_bounded(response)
        except (TimeoutError, httpx.TransportError):
            pass
    facts = problem(response.status_code, response.headers, body)
    return LostError(
        "refused",
        status=facts.status,
        code=facts.code,
        retry_after=facts.retry_after,
        detail=facts.detail,
    )


def _number(error: Exception, name: str) -> float:
    value = getattr(error, name, 0)
    return float(value) if isinstance(value, int | float) and value >= 0 else 0.0
