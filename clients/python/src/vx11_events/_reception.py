"""Frames as messages, without I/O: the position, resuming, resets, and the state of the log."""

import math
from collections.abc import Iterator

from ._backoff import LONGEST_WAIT
from ._frames import Frame
from ._http import parse_object
from ._messages import Degraded, Event, Message, Opened, Recovered, Reset, Resumed


class SentAwayError(Exception):
    """The last frame of a stream: the service ended it with a reason."""

    def __init__(self, reason: str, delay: float | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.delay = delay
        """Seconds that the service asks to wait; `None` if it does not."""


class Reception:
    """What was received so far, over all connections of a subscription."""

    def __init__(self, last_event_id: str) -> None:
        self.last_event_id = last_event_id
        self.instance_id = ""
        self.degraded = ""
        self.is_open = False
        # Position to resume after, until the stream shows whether it resumed.
        self._asked = ""

    def end(self) -> None:
        """Notes the end of a connection. Its state is known for an open stream only."""
        self.degraded = self._asked = ""
        self.is_open = False

    def receive(self, frame: Frame) -> Iterator[Message]:
        """Yields the messages of a frame. Raises `SentAwayError` for the last one."""
        before = self.last_event_id
        if frame.id is not None:
            self.last_event_id = frame.id
        if frame.data is None:
            # A later position and no reset: nothing was missed.
            if self.is_open and not self.degraded:
                yield from self._resumed()
            return
        if self.is_open:
            yield from self._deliver(frame, frame.data, before)
            return
        # Only the first frame can be the greeting. Later frames of that form are events.
        self.is_open = True
        self._asked = before
        said = parse_object(frame.data) if frame.type == "message" else {}
        is_greeting = said.get("type") == "connected"
        if is_greeting:
            self.instance_id = str(said.get("instance_id", ""))
        yield Opened(self.instance_id if is_greeting else "")
        if not is_greeting:
            yield from self._deliver(frame, frame.data, before)
        elif frame.id is not None:
            yield from self._resumed()

    def _resumed(self) -> Iterator[Message]:
        after, self._asked = self._asked, ""
        if after:
            yield Resumed(after)

    def _deliver(self, frame: Frame, data: str, before: str) -> Iterator[Message]:
        match frame.type:
            case "reset":
                self._asked = ""
                yield Reset(_reason(data), after=before, id=self.last_event_id)
            case "reconnect":
                said = parse_object(data)
                reason = said.get("reason")
                delay = _milliseconds(said.get("retry_ms", frame.retry_ms))
                raise SentAwayError(reason if isinstance(reason, str) else "server", delay)
            case "degraded":
                self.degraded = _reason(data)
                yield Degraded(self.degraded)
            case "recovered":
                self.degraded = ""
                yield Recovered()
            case _:
                yield from self._resumed()  # an event and no reset
                yield Event(self.last_event_id, frame.type, frame.topic, data)


def _reason(data: str) -> str:
    return str(parse_object(data).get("reason", "unknown"))


def _milliseconds(value: object) -> float | None:
    """Returns seconds, at most the longest wait; `None` if the value is no time."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if math.isnan(value) or value < 0:
        return None
    return min(value, LONGEST_WAIT * 1000) / 1000
