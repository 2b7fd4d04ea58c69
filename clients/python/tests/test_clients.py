"""Both clients beyond the table of client cases: closing, cancelling, arguments and secrets."""

import asyncio
import json
import logging
import threading
import tomllib
import unittest
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import httpx

from vx11_events import AsyncClient, Client, Event, IssueError, Opened, Waiting

URL = "http://127.0.0.1:1"
SECRET = "credential-0123456789"
TOKEN = "6f0d2b7e-91c4-8a35-b0e2-5d4c3b2a1908"
ISSUED = {
    "sse_token": TOKEN,
    "token_id": "3f9a",
    "expires_in": 60,
    "expires_at": "2026-01-01T00:01:00Z",
}
HERE = Path(__file__).parent


class Service(httpx.AsyncByteStream):
    """Streams of which a test sends the bytes."""

    def __init__(self, refuse: int | None = None) -> None:
        self.refuse = refuse
        self.chunks: asyncio.Queue[bytes] = asyncio.Queue()
        self.open = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.open += 1
        yield b'data: {"type": "connected", "instance_id": "1"}\n\n'
        while True:
            yield await self.chunks.get()

    async def aclose(self) -> None:
        self.open -= 1

    def answer(self, request: httpx.Request) -> httpx.Response:
        if self.refuse is not None:
            return httpx.Response(self.refuse, content=whole({"code": "x", "detail": "y"}))
        if request.method == "POST":
            return httpx.Response(200, content=whole(ISSUED))
        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=self)

    def serve(self, client: AsyncClient) -> AsyncClient:
        client._http = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))
        return client


class Asynchronous(unittest.IsolatedAsyncioTestCase):
    async def test_a_cancelled_wait_loses_no_message(self) -> None:
        service = Service()
        async with service.serve(AsyncClient(URL, SECRET)) as client:
            messages = client.subscribe()
            self.assertEqual(await anext(messages), Opened("1"))
            for _ in range(3):
                with self.assertRaises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await anext(messages)
            service.chunks.put_nowait(b"id: 1\ndata: 1\n\nid: 2\ndata: 2\n\n")
            self.assertEqual(
                [await anext(messages), await anext(messages)], [event("1"), event("2")]
            )

    async def test_closing_ends_a_wait_and_the_connection(self) -> None:
        service = Service()
        async with service.serve(AsyncClient(URL, SECRET)) as client:
            messages = client.subscribe()
            await anext(messages)
            waiting = asyncio.create_task(collected(messages))
            await asyncio.sleep(0)
            self.assertEqual(service.open, 1)
            await messages.aclose()
            self.assertEqual((await waiting, service.open), ([], 0))
            await messages.aclose()

    async def test_closing_the_client_closes_its_subscriptions(self) -> None:
        service = Service()
        client = service.serve(AsyncClient(URL, SECRET))
        messages = client.subscribe()
        await anext(messages)
        await client.aclose()
        self.assertEqual((await collected(messages), service.open), ([], 0))

    async def test_any_error_of_issue_token_is_waited_for(self) -> None:
        async def broken() -> str:
            raise KeyError(TOKEN)

        async with AsyncClient(URL) as client:
            with self.assertLogs("vx11_events", logging.WARNING) as logged:
                message = await anext(client.subscribe(issue_token=broken))
        assert isinstance(message, Waiting)
        self.assertEqual((message.cause, type(message.error)), ("issue", KeyError))
        self.assertNotIn(TOKEN, str(logged.output))


class Synchronous(unittest.TestCase):
    def test_another_thread_may_close_a_subscription(self) -> None:
        service = Service()
        with Client(URL, SECRET) as client:
            service.serve(client._inner)
            messages = client.subscribe()
            next(messages)
            closing = threading.Timer(0.01, messages.close)
            closing.start()
            self.assertEqual(list(messages), [])
            closing.join()

    def test_another_thread_may_close_the_client(self) -> None:
        for _ in range(20):
            service = Service()
            client = Client(URL, SECRET)
            service.serve(client._inner)
            messages = client.subscribe()
            next(messages)
            closing = threading.Thread(target=client.close)
            closing.start()
            self.assertEqual(list(messages), [])
            closing.join()

    def test_a_call_that_closing_interrupts_says_so(self) -> None:
        has_come = threading.Event()

        async def never(request: httpx.Request) -> httpx.Response:
            has_come.set()
            await asyncio.Event().wait()
            raise AssertionError

        client = Client(URL, SECRET)
        client._inner._http = httpx.AsyncClient(transport=httpx.MockTransport(never))

        def close() -> None:
            has_come.wait()
            client.close()

        closing = threading.Thread(target=close)
        closing.start()
        with self.assertRaisesRegex(RuntimeError, "closed"):
            client.publish(1)
        closing.join()

    def test_a_closed_client_says_so_and_may_be_closed_again(self) -> None:
        client = Client(URL, SECRET)
        messages = client.subscribe()
        client.close()
        client.close()
        messages.close()
        self.assertEqual(list(messages), [])
        for call in (client.issue, client.subscribe, lambda: client.publish(1)):
            with self.assertRaisesRegex(RuntimeError, "closed"):
                call()

    def test_no_error_and_no_representation_has_a_secret(self) -> None:
        with Client(URL, SECRET) as client:
            Service(refuse=401).serve(client._inner)
            with self.assertRaises(IssueError) as failed:
                client.issue()
            Service().serve(client._inner)
            token = client.issue()
            self.assertEqual(token.sse_token, TOKEN)
            for text in map(repr, (failed.exception, token, client)):
                self.assertNotIn(TOKEN, text)
                self.assertNotIn(SECRET, text)
        for wrong in (f"{SECRET}\n", ""):
            with self.assertRaises(ValueError) as refused:
                Client(URL, wrong)
            self.assertNotIn(SECRET, str(refused.exception))

    def test_wrong_arguments_are_refused_before_a_request(self) -> None:
        for url in ("127.0.0.1:8001", "ftp://host", "http://host/?token=1"):
            with self.assertRaises(ValueError):
                Client(url)
        with Client(URL, SECRET) as client:
            for topics in ([], "orders", ["x"] * 17):
                with self.assertRaises(ValueError):
                    client.subscribe(topics=topics)
                with self.assertRaises(ValueError):
                    client.issue(topics=topics)
            for begin in ("0", "-0", "-1001", "end"):
                with self.assertRaises(ValueError):
                    client.subscribe(from_=begin)
            with self.assertRaises(ValueError):
                client.publish(float("nan"))
            with self.assertRaises(ValueError):
                client.publish(1, topic=[])
            with self.assertRaises(ValueError):
                client.issue(stream_until=datetime(2026, 1, 1))
        with Client(URL) as client, self.assertRaisesRegex(ValueError, "principal"):
            client.subscribe()

    def test_the_version_is_that_of_the_service(self) -> None:
        package = tomllib.loads((HERE.parent / "pyproject.toml").read_text())
        service = tomllib.loads((HERE.parents[2] / "Cargo.toml").read_text())
        self.assertEqual(package["project"]["version"], service["workspace"]["package"]["version"])


async def whole(body: object) -> AsyncIterator[bytes]:
    yield json.dumps(body).encode()


def event(number: str) -> Event:
    return Event(number, "message", "default", number)


async def collected(messages: AsyncIterator[object]) -> list[object]:
    return [message async for message in messages]


if __name__ == "__main__":
    unittest.main()
