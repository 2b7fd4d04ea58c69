"""Messages of a subscription, in the order in which they happen."""

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """A published event."""

    id: str
    """Position in the event log: unique and opaque."""
    type: str
    topic: str
    """The first of the event's topics that this stream reads."""
    data: str
    """The data exactly as received. It is untrusted."""

    def json(self) -> Any:  # noqa: ANN401 - the publisher decides
        """Parses the data. Raises `ValueError` if it is not JSON."""
        return json.loads(self.data)


@dataclass(frozen=True, slots=True)
class Reset:
    """Events between `after` and `id` are missing and will not come. The stream continues."""

    reason: str
    """`epoch`, `expired`, `future` or `unknown`."""
    after: str
    """Last position before the missing events; `""` if there is none."""
    id: str
    """Position after which the stream continues."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream is open: its first frame has arrived."""

    instance_id: str
    """Instance that serves it; `""` if the first frame does not name it."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The stream continues right after the last position: nothing was missed."""

    after: str


@dataclass(frozen=True, slots=True)
class Degraded:
    """No events come for now, and none is lost: the event log is unavailable to the instance."""

    reason: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """The event log is available again."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """There is no stream. The next attempt begins after `delay`, with a new token."""

    cause: str
    """A reason of the server: `drain`, `max_age`, `slow`, `grant_ended`, `revoked`, `blocked`,
    `ended`, or `server` without one. Otherwise `cut`, `silent`, `unreachable`, `refused` (the
    answer is no stream) or `issue` (no token)."""
    delay: float
    """Seconds."""
    by_server: bool = False
    """Whether the server ended the stream with a reason."""
    status: int = 0
    """HTTP status of an answer that is neither a token nor a stream; 0 if there is none."""
    code: str = ""
    """`code` of its problem document; `""` if there is none."""
    attempt: int = 0
    """Failures in a row."""
    error: BaseException | None = field(default=None, compare=False)


Message = Event | Reset | Opened | Resumed | Degraded | Recovered | Waiting
