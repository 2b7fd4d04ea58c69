"""Parts of both adapters of the Python client: options of a case, and messages as notes."""

import json
import logging
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

import vx11_events as vx11

ENDS: dict[type[Exception], str] = {
    vx11.UnauthorizedError: "unauthorized",
    vx11.ForbiddenError: "forbidden",
    vx11.InvalidError: "invalid",
    vx11.ReplacedError: "replaced",
    vx11.OutcomeUnknownError: "unknown",
    vx11.PublishError: "not_published",
    vx11.IssueError: "no_token",
}
Spec = dict[str, Any]
NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""The server speaks plain HTTP, and to load authorities takes longer than most cases."""
_printing = threading.Lock()

# The notes say the same.
logging.getLogger("vx11_events").disabled = True


@contextmanager
def noting(case: str) -> Iterator[Callable[..., None]]:
    """Prints notes of a case, and the error that ends it."""

    def note(**facts: Any) -> None:
        with _printing:
            sys.stdout.write(json.dumps({"case": case, **facts}) + "\n")
            sys.stdout.flush()

    try:
        yield note
    except vx11.Vx11Error as error:
        note(ends=ENDS[type(error)])


def facts(message: vx11.Message) -> dict[str, Any]:
    match message:
        case vx11.Event(id=id_, type=type_, topic=topic, data=data):
            return {"event": id_, "type": type_, "topic": topic, "data": data}
        case vx11.Reset(reason=reason, after=after, id=id_):
            return {"reset": reason, "after": after, "id": id_}
        case vx11.Opened(instance_id=instance):
            return {"opened": instance}
        case vx11.Resumed(after=after):
            return {"resumed": after}
        case vx11.Degraded(reason=reason):
            return {"degraded": reason}
        case vx11.Recovered():
            return {"recovered": True}
        case vx11.Waiting(cause=cause, delay=delay, status=status, code=code):
            return {"waiting": cause, "delay_ms": delay * 1000, "status": status, "code": code}


def options(spec: Spec) -> dict[str, Any]:
    """Arguments of `subscribe`."""
    names = {"from": "from_"}
    return {
        names.get(name, name.removesuffix("_ms")): value / 1000 if name.endswith("_ms") else value
        for name, value in spec["subscribe"].items()
    }


def publication(spec: Spec) -> dict[str, Any]:
    """Arguments of `publish`, besides the data."""
    return {name: value for name, value in spec["publish"].items() if name != "data"}


def issued(answer: httpx.Response) -> Any:
    """A token of the application's own backend."""
    if answer.status_code != httpx.codes.OK:
        retry_after = float(answer.headers.get("Retry-After", 0))
        raise vx11.IssueError("no token", status=answer.status_code, retry_after=retry_after)
    return answer.json()
