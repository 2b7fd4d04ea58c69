"""Compares requests and messages with a case."""

import json
from collections.abc import Iterator
from typing import Any

from server import Request, Server
from table import Case

Note = dict[str, Any]

_LOST = {"cut", "unreachable"}
"""Causes that not all clients distinguish: no answer, or its end."""
_EVENT: Note = {"type": "message", "topic": "default"}
_TOLERANCE_MS = 50
"""The command line rounds waits to a tenth of a second."""
_LEAST_SPREAD = 0.01
"""That all of several random shares are closer happens once in a million runs."""
_EARLY_S = 0.005
"""Timers may be early by their resolution."""


def normal(note: Note) -> Note:
    """A note in the form of the table."""
    if note.get("waiting") in _LOST:
        note = note | {"waiting": "lost"}
    if "event" in note:
        note = note | {"data": _value(note["data"])}
    return note


def _value(data: Any) -> Any:
    try:
        return json.loads(data)
    except (TypeError, ValueError):
        return data


def is_wanted(note: Note, case: Case) -> bool:
    """Whether a case says something about notes of this kind. Openings, it may leave out."""
    return "opened" not in note or any("opened" in wanted for wanted in case.gets)


def faults(case: Case, server: Server, notes: list[Note]) -> Iterator[str]:
    """What does not follow the case."""
    yield from _requests(case, server)
    notes = [normal(note) for note in notes if is_wanted(note, case)]
    wanted = case.gets + ([{"ends": case.ends}] if case.ends else [])
    for number, expected in enumerate(wanted):
        found = notes[number] if number < len(notes) else None
        if found is None or not _matches(expected, found):
            yield f"message {number + 1} is {found}, expected {expected}; all messages: {notes}"
            return
    if case.jitter or case.grows:
        yield from _waits(case, notes)
    if len(notes) > len(wanted):
        yield f"more messages than expected: {notes[len(wanted) :]}"


def _waits(case: Case, notes: list[Note]) -> Iterator[str]:
    """Waits under a bound are random: they are not all the same share of it."""
    waits = [
        (found["delay_ms"], expected["at_most_ms"])
        for expected, found in zip(case.gets, notes, strict=False)
        if "at_most_ms" in expected
    ]
    shares = [wait / bound for wait, bound in waits]
    if case.jitter and max(shares) - min(shares) < _LEAST_SPREAD:
        yield f"waits are always the same share of their bound: {shares}"
    if case.grows and max(wait for wait, _ in waits) <= waits[0][1]:
        yield f"waits do not grow: {waits}"


def _matches(expected: Note, found: Note) -> bool:
    expected = (_EVENT if "event" in expected else {}) | expected
    least, most = expected.pop("at_least_ms", None), expected.pop("at_most_ms", None)
    delay = found.get("delay_ms", 0)
    in_bounds = (least is None or delay >= least - _TOLERANCE_MS) and (
        most is None or delay <= most + _TOLERANCE_MS
    )
    # A client that cannot report a fact leaves it out.
    return (
        in_bounds
        and expected.keys() & found.keys() >= expected.keys() - {"id"}
        and all(found[key] == value for key, value in expected.items() if key in found)
    )


def _requests(case: Case, server: Server) -> Iterator[str]:
    for kind, script in (("stream", case.stream), ("publish", case.attempt)):
        requests = server.of(kind)
        if len(requests) != len(script):
            yield f"{len(requests)} requests of kind {kind}, expected {len(script)}"
        for number, (exchange, request) in enumerate(zip(script, requests, strict=False)):
            for fault in _request(exchange.get("asks", {}), request, server):
                yield f"{kind} {number + 1}: {fault}"
    issues = server.of("issue")
    if len(issues) < len(case.issue) or (
        case.issue_token is not None and len(issues) > len(case.issue)
    ):
        yield f"{len(issues)} requests for a token, expected {len(case.issue)}"
    for exchange, request in zip(case.issue, issues, strict=False):
        yield from _request(exchange.get("asks", {}), request, server)
    yield from _tokens(server)
    yield from _keys(server)
    for request in server.requests:
        if request.kind not in {"stream", "publish", "issue"}:
            yield f"an unexpected request: {request.kind}"
        if "token" in request.query:
            yield "a token in an address"
        if "event-stream" in request.headers.get("accept", ""):
            yield "a request that accepts event streams: a proxy would hide the status"


def _request(asks: Note, request: Request, server: Server) -> Iterator[str]:
    position = request.headers.get("last-event-id", request.query.get("last_event_id", [""])[0])
    found: Note = {
        "last_event_id": position,
        "from": request.query.get("from", [""])[0],
        "key": request.headers.get("idempotency-key"),
        "body": _value(request.body.decode()),
        "topics": request.query.get("topic", []),
    }
    defaults: Note = {"last_event_id": "", "from": ""} if request.kind == "stream" else {}
    for name, value in (defaults | asks).items():
        if name == "waited_ms":
            before = server.requests[server.requests.index(request) - 1]
            idle = (
                before.idle if before.kind == "issue" and request.kind == "stream" else request.idle
            )
            if idle < value / 1000 - _EARLY_S:
                yield f"it came after {idle * 1000:.0f} ms, expected at least {value}"
        elif found[name] != value:
            yield f"{name} is {found[name]!r}, expected {value!r}"


def _tokens(server: Server) -> Iterator[str]:
    """Each stream has the newest token, and no token opens two streams."""
    streams = server.of("stream")
    used = [request.headers.get("x-vx11-token") for request in streams]
    if len(set(used)) < len(used):
        yield f"a token was used twice: {used}"
    if used != [request.newest_token for request in streams]:
        yield f"a stream has another token than the newest: {used}, issued {server.tokens}"


def _keys(server: Server) -> Iterator[str]:
    """All attempts to publish have one key and one body."""
    attempts = server.of("publish")
    keys = {request.headers.get("idempotency-key") for request in attempts}
    if attempts and (len(keys) > 1 or not all(keys)):
        yield f"attempts have the keys {keys}"
    if len({request.body for request in attempts}) > 1:
        yield "attempts have different bodies"
