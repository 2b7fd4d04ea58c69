"""A server that follows the script of one case, and records each request.

It is a fake: the real service cannot be made to cut a connection between two bytes of a line, to
send a reset in the middle of a stream, or to give a certain `Retry-After`. How the clients and the
real service work together is tested elsewhere, with real instances.
"""

import asyncio
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import steps
from table import Case

STREAM = "/operator/api/events/stream"
ISSUE = "/operator/api/events/sse-token"
PUBLISH = "/operator/api/events"
BACKEND = "/backend/token"
_KINDS = {
    ("GET", STREAM): "stream",
    ("POST", ISSUE): "issue",
    ("POST", BACKEND): "issue",
    ("POST", PUBLISH): "publish",
}


@dataclass
class Request:
    """A request as it was received."""

    kind: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    idle: float
    """Seconds since the end of the answer before it."""
    newest_token: str
    """The token that was issued last."""


@dataclass
class Server:
    """Listens on a free port while its context is open."""

    case: Case
    requests: list[Request] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    """Tokens that were issued, in order."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with each request."""
    _answered_at: float = field(default_factory=time.monotonic)
    _connections: set["asyncio.Task[None]"] = field(default_factory=set)

    async def __aenter__(self) -> "Server":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def of(self, kind: str) -> list[Request]:
        """Requests of this kind, in order."""
        return [request for request in self.requests if request.kind == kind]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        try:
            request = await self._read(reader)
            self.requests.append(request)
            self.changed.set()
            await self._answer(request, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client has left, or the case is over
        finally:
            self._connections.discard(task)
            self._answered_at = time.monotonic()
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = line.split(" ")
        pairs = (line.partition(":") for line in lines if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        address, now = urlsplit(target), time.monotonic()
        kind = _KINDS.get((method, address.path), f"{method} {address.path}")
        return Request(
            kind=kind,
            query=parse_qs(address.query, keep_blank_values=True),
            headers=headers,
            body=body,
            idle=now - self._answered_at,
            newest_token=self.tokens[-1] if self.tokens else "",
        )

    async def _answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        script = {
            "issue": self.case.issue,
            "stream": self.case.stream,
            "publish": self.case.attempt,
        }.get(request.kind, [])
        number = len(self.of(request.kind)) - 1
        exchange = script[number] if number < len(script) else {}
        answers = exchange.get(
            "answers", [{"token": True}] if request.kind == "issue" else [{"refuse": 501}]
        )
        await _Connection(self, request, reader, writer).follow(answers)


@dataclass
class _Connection:
    server: Server
    request: Request
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    has_begun: bool = False

    async def follow(self, answers: list[steps.Step]) -> None:
        for step in answers:
            if await self._take(step):
                return
        if "reconnect" in answers[-1]:
            await self._send(steps.chunk(b""))
        elif self.has_begun:
            await self.reader.read()  # until the client leaves

    async def _take(self, step: steps.Step) -> bool:
        """Takes a step; returns whether it ends the answer."""
        data = steps.frame(step)
        if data is not None:
            await self._send_frame(data, step.get("bytewise", False))
            return False
        match step:
            case {"token": value}:
                await self._send(steps.answer(200, self._new_token(value)))
            case {"refuse": _}:
                await self._send(steps.refusal(step))
            case {"answer": status}:
                headers = step.get("headers", {})
                await self._send(
                    steps.answer(
                        status, step["body"], step.get("type", "application/json"), headers
                    )
                )
            case {"hang": True}:
                await self.reader.read()
            case {"close": "clean"}:
                await self._send(steps.chunk(b""))
            case {"close": "cut"}:
                pass
            case {"close": "reset"}:
                connection: socket.socket = self.writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case _:
                raise ValueError(f"{self.server.case.name}: unknown step {step}")
        return True

    def _new_token(self, value: Any) -> dict[str, Any]:
        tokens = self.server.tokens
        token = (
            value if isinstance(value, str) else f"00000000-0000-8000-8000-{len(tokens) + 1:012}"
        )
        tokens.append(token)
        return {
            "sse_token": token,
            "token_id": "3f9a1c0b5d7e2f48",
            "expires_in": 60,
            "expires_at": "2026-01-01T00:01:00Z",
            "instance_id": "1",
            "backend": "redis",
        }

    async def _send_frame(self, data: bytes, bytewise: bool) -> None:
        if not self.has_begun:
            self.has_begun = True
            await self._send(steps.STREAM_HEAD)
        for part in [bytes([byte]) for byte in data] if bytewise else [data]:
            await self._send(steps.chunk(part))
            if bytewise:
                await asyncio.sleep(0)  # a separate write

    async def _send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()
