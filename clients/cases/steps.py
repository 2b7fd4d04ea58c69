"""Steps of the server's script: the bytes of frames and answers."""

import json
from typing import Any

Step = dict[str, Any]

REASONS = {
    200: "OK",
    202: "Accepted",
    302: "Found",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
}


def frame(step: Step) -> bytes | None:
    """The bytes of a frame; `None` if the step is none."""
    match step:
        case {"greeting": event_id}:
            said = {"instance_id": step.get("instance", "1"), "type": "connected"}
            return _fields(retry=1500, id=event_id or None, event="message", data=json.dumps(said))
        case {"event": event_id}:
            data = json.dumps(step.get("data", 1))
            return _fields(
                id=event_id, event=step.get("type", "message"), topic=step.get("topic"), data=data
            )
        case {"heartbeat": event_id}:
            return b": heartbeat\n" + _fields(id=event_id)
        case {"reset": reason}:
            return _fields(id=step["id"], event="reset", data=json.dumps({"reason": reason}))
        case {"reconnect": reason}:
            said = {"reason": reason, "retry_ms": step.get("retry_ms")}
            said = {name: value for name, value in said.items() if value is not None}
            return _fields(retry=step.get("retry"), event="reconnect", data=json.dumps(said))
        case {"degraded": reason}:
            return _fields(event="degraded", data=json.dumps({"reason": reason}))
        case {"recovered": True}:
            return _fields(event="recovered", data="{}")
        case {"raw": text}:
            return bytes(text.encode() * step.get("times", 1))
        case {"bytes": text}:
            return bytes.fromhex(text)
    return None


def _fields(**fields: Any) -> bytes:
    lines = [f"{name}: {value}\n" for name, value in fields.items() if value is not None]
    return ("".join(lines) + "\n").encode()


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    """A chunk of HTTP/1.1; without data it is the last one."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def answer(
    status: int,
    body: Any,
    content_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> bytes:
    """A whole answer."""
    content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    fields = {
        "Content-Type": content_type,
        "Content-Length": len(content),
        "Connection": "close",
        **(headers or {}),
    }
    lines = [
        f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}",
        *(f"{name}: {value}" for name, value in fields.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


def refusal(step: Step) -> bytes:
    """A problem document (RFC 9457)."""
    status = step["refuse"]
    body = {
        "status": status,
        "code": step.get("code", "some_code"),
        "detail": "The table says so.",
        "request_id": "r",
    }
    headers = {"Retry-After": step["retry_after"]} if "retry_after" in step else {}
    return answer(status, body, "application/problem+json", headers | step.get("headers", {}))
