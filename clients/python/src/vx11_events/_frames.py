"""Parser of `text/event-stream` (WHATWG HTML §9.2.6), without I/O.

Beyond the standard it reads the field `topic`, and it reports frames that have an id and no data:
SSE heartbeats with a position. No library is used because `httpx-sse`, the one for httpx, drops the
topic, reports such a heartbeat as an event without data, and keeps lines and data of any length.
"""

import re
from dataclasses import dataclass

LARGEST = 1024 * 1024
"""Bound of a line, and of the data of a frame, in bytes: several times the largest event."""

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Longer numbers are no wait that a service asks for.
_MOST_DIGITS = 15


class NotAStreamError(Exception):
    """The bytes are no event stream: a line or the data of a frame exceeds its bound."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that has data or an id."""

    id: str | None
    type: str
    topic: str
    data: str | None
    """`None`: the frame has an id only."""
    retry_ms: int | None


class FrameParser:
    """Turns the bytes of a stream into frames, in chunks of any size."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._has_begun = False
        # The last byte was a CR: an LF after it belongs to the same line end.
        self._after_cr = False
        self._start_frame()

    def _start_frame(self) -> None:
        self._id: str | None = None
        self._type = ""
        self._topic = ""
        self._data: list[str] = []
        self._data_bytes = 0
        self._retry_ms: int | None = None

    def push(self, chunk: bytes) -> list[Frame]:
        """Returns the frames that this chunk completes."""
        if not chunk:
            return []
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._after_cr = chunk.endswith(b"\r")
        *ended, rest = _LINE_END.split(chunk)
        frames = []
        for part in ended:
            self._extend_line(part)
            frame = self._end_line()
            if frame is not None:
                frames.append(frame)
        self._extend_line(rest)
        return frames

    def _extend_line(self, part: bytes) -> None:
        if len(self._line) + len(part) > LARGEST:
            raise NotAStreamError(f"a line of more than {LARGEST} bytes")
        self._line += part

    def _end_line(self) -> Frame | None:
        line = bytes(self._line)
        self._line.clear()
        if not self._has_begun:
            self._has_begun = True
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if line:
            self._read_field(line)
            return None
        return self._end_frame()

    def _end_frame(self) -> Frame | None:
        has_data = bool(self._data)
        frame = Frame(
            id=self._id,
            type=self._type or "message",
            topic=self._topic or "default",
            data="\n".join(self._data) if has_data else None,
            retry_ms=self._retry_ms,
        )
        self._start_frame()
        return frame if has_data or frame.id is not None else None

    def _read_field(self, line: bytes) -> None:
        """A comment is a field without a name."""
        name, _, raw = line.partition(b":")
        raw = raw.removeprefix(b" ")
        value = raw.decode(errors="replace")
        match name:
            case b"data":
                self._data_bytes += len(raw) + 1
                if self._data_bytes > LARGEST:
                    raise NotAStreamError(f"a frame with more than {LARGEST} bytes of data")
                self._data.append(value)
            case b"event":
                self._type = value
            case b"topic":
                self._topic = value
            case b"id" if "\0" not in value:
                self._id = value
            case b"retry" if raw.isdigit() and len(raw) <= _MOST_DIGITS:
                self._retry_ms = int(raw)
