"""Waits between attempts: full jitter under a bound that doubles.

The bound starts again after a connection that opened, unless connections keep ending at once.
All times are in seconds.
"""

import random
from collections.abc import Callable

LONGEST_WAIT = 300.0
"""Longest wait that a server can ask for."""

_STABLE = 2.0
"""A shorter connection counts as short-lived."""
_MOST_FLAPS = 2
"""Most failures that short-lived connections count for: they wait for seconds, not for longer."""
_LASTING = 60.0
"""Age from which a stream that ends for a reason about its token does not count as one more."""


class Backoff:
    """Number of failures so far, and the waits that follow from it."""

    def __init__(
        self, least: float, most: float, pick: Callable[[], float] = random.random
    ) -> None:
        self._least = least
        self._most = most
        self._pick = pick
        self.failures = 0
        self._flaps = 0
        self._access_ends = 0

    def next(self) -> float:
        """Returns the wait after one more failure: random, up to the bound."""
        # The exponent is bounded because a float is.
        bound = min(self._most, self._least * 2.0 ** min(self.failures, 64))
        self.failures += 1
        return self._pick() * bound

    def next_after(self, asked: float) -> float:
        """Adds jitter to the wait that the server asks for: all clients get the same number."""
        return min(asked, LONGEST_WAIT) + self.next()

    def next_after_access_end(self, asked: float) -> float:
        """Backs off after a connection that ended for a reason about its token.

        The stream of the next token may end in the same way.
        """
        self.failures = max(self.failures, self._access_ends)
        self._access_ends += 1
        return self.next_after(asked)

    def settle(self, lasted: float) -> None:
        """Notes the end of a connection that had opened.

        Short-lived connections in a row count as failures; otherwise a server that accepts and
        drops connections would get several attempts a second.
        """
        if lasted >= _LASTING:
            self._access_ends = 0
        if lasted >= _STABLE:
            self._flaps = 0
        self.failures = self._flaps
        self._flaps = min(self._flaps + 1, _MOST_FLAPS)
