"""Bounds of waits, with a random source that always picks the bound."""

import unittest

from vx11_events._backoff import LONGEST_WAIT, Backoff


def backoff() -> Backoff:
    return Backoff(0.5, 3.0, pick=lambda: 1.0)


class Waits(unittest.TestCase):
    def test_the_bound_doubles_up_to_the_longest(self) -> None:
        waits = backoff()
        self.assertEqual([waits.next() for _ in range(5)], [0.5, 1.0, 2.0, 3.0, 3.0])
        for _ in range(5_000):
            self.assertEqual(waits.next(), 3.0)

    def test_short_lived_connections_slow_down_and_one_that_stays_starts_over(self) -> None:
        for lived, expected in (
            ([60], 0.5),
            ([0], 0.5),
            ([0, 0], 1.0),
            ([0] * 9, 2.0),
            ([0, 0, 0, 60], 0.5),
        ):
            waits = backoff()
            for _ in range(10):
                waits.next()
            for lasted in lived:
                waits.settle(lasted)
            self.assertEqual(waits.next(), expected, lived)

    def test_ends_for_the_token_wait_ever_longer_unless_a_stream_lasts(self) -> None:
        for lived, expected in (
            ([5], 0.5),
            ([5, 59], 1.0),
            ([5, 5, 5], 2.0),
            ([5] * 9, 3.0),
            ([5, 5, 60], 0.5),
        ):
            waits = backoff()
            wait = 0.0
            for lasted in lived:
                waits.settle(lasted)
                wait = waits.next_after_access_end(0.0)
            self.assertEqual(wait, expected, lived)

    def test_a_server_may_ask_for_five_minutes_and_jitter_is_added(self) -> None:
        self.assertEqual(backoff().next_after(7.0), 7.5)
        self.assertEqual(backoff().next_after(float("inf")), LONGEST_WAIT + 0.5)


if __name__ == "__main__":
    unittest.main()
