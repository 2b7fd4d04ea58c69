"""An event loop on a thread in the background, for callers that have none."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class PortalClosedError(RuntimeError):
    """The client is closed, or was closed during the call."""


class Portal:
    """Runs coroutines of any thread. The thread does not keep the process alive."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="vx11-events", daemon=True
        )
        self._thread.start()
        # Held while a call is handed over, so that none comes after the end of the loop.
        self._lock = threading.Lock()
        self._is_closed = False

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Waits for a coroutine. An interrupted wait, such as by Ctrl-C, cancels it."""
        with self._lock:
            if self._is_closed:
                coroutine.close()
                raise PortalClosedError("the client is closed")
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise PortalClosedError("the client was closed during the call") from None
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancels all calls, and ends the thread."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    await asyncio.get_running_loop().shutdown_asyncgens()
    # A generator that was dropped is closed by a task, which begins in the next round.
    await asyncio.sleep(0)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
