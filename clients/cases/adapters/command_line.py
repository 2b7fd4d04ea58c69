"""The command line as a client: its arguments for a case, and its lines as notes.

Standard output and standard error are one pipe, so that the order of events and messages is known.
"""

import json
import re
from typing import Any

Note = dict[str, Any]

_PREFIX = "vx11-operator: "
_CONNECTED = re.compile(r"connected to instance (\S+?)(?:, after event (.+))?$")
_RESET = re.compile(r"reset \((\w+)\): events after (.+?) are missing")
_DEGRADED = re.compile(r"degraded \((\w+)\)")
_WAITING = re.compile(r"(.*); reconnecting in ([\d.]+) s$")
_SENT_AWAY = re.compile(r"the service ended the stream \((.*)\)$")
_REFUSED = re.compile(r"(?:: |\()(\d{3})\b(?: (\w+))?")
_FINAL = {"400": "invalid", "401": "unauthorized", "403": "forbidden"}
_PUBLISHED_BEFORE = "an earlier attempt under this key had published it"


def arguments(spec: Note) -> list[str]:
    """Arguments after the program. The credential and the URL are in the environment."""
    if "subscribe" in spec:
        options = spec["subscribe"]
        begin = options.get("last_event_id") or options.get("from")
        found = ["tail", "--json", *_repeated("--topic", options.get("topics", []))]
        return [*found, f"--from={begin}"] if begin else found
    if "publish" in spec:
        options = spec["publish"]
        topics = options.get("topic", [])
        found = ["publish", *_repeated("--topic", [topics] if isinstance(topics, str) else topics)]
        for name, option in (("event", "--event"), ("key", "--key"), ("patience", "--patience")):
            if name in options:
                found.append(f"{option}={options[name]}")
        return [*found, "--", json.dumps(options["data"])]
    options = spec["issue_token"]
    found = ["token", "issue", *_repeated("--topic", options.get("topics", []))]
    for name, option in (("subject", "--subject"), ("expires_in", "--ttl")):
        if name in options:
            found.append(f"{option}={options[name]}")
    return found


def _repeated(option: str, values: list[str]) -> list[str]:
    return [part for value in values for part in (option, value)]


class Translator:
    """Turns lines into notes."""

    def __init__(self, spec: Note) -> None:
        self._spec = spec
        self._last = ""
        self._earlier = False

    def line(self, line: str) -> list[Note]:
        self._last = line
        if not line.startswith(_PREFIX):
            return [self._output(line)]
        text = line.removeprefix(_PREFIX)
        if match := _CONNECTED.match(text):
            resumed = [{"resumed": match[2]}] if match[2] else []
            return [{"opened": match[1]}, *resumed]
        if match := _RESET.match(text):
            after = "" if match[2] == "the last one" else match[2]
            return [{"reset": match[1], "after": after}]
        if match := _DEGRADED.match(text):
            return [{"degraded": match[1]}]
        if text.startswith("recovered"):
            return [{"recovered": True}]
        if match := _WAITING.match(text):
            return [_waiting(match[1]) | {"delay_ms": float(match[2]) * 1000}]
        self._earlier |= text == _PUBLISHED_BEFORE
        return []

    def _output(self, line: str) -> Note:
        if "publish" in self._spec:
            return {"published": line, "earlier": self._earlier}
        if "issue_token" in self._spec:
            return {"token": line}
        event = json.loads(line)
        topic = event.get("topic", "default")
        return {"event": event["id"], "type": event["event"], "topic": topic, "data": event["data"]}

    def end(self, code: int) -> list[Note]:
        """Notes about the end of the program."""
        if "subscribe" in self._spec:
            if "took the place" in self._last:
                return [{"ends": "replaced"}]
            refused = _REFUSED.search(self._last)
            return [{"ends": _FINAL.get(refused[1] if refused else "", "failed")}]
        if code == 0:
            return []
        if "publish" in self._spec:
            return [{"ends": "unknown" if code == 3 else "not_published"}]
        return [{"ends": "no_token"}]


def _waiting(text: str) -> Note:
    if match := _SENT_AWAY.match(text):
        return {
            "waiting": "server" if match[1] == "no reason given" else match[1],
            "status": 0,
            "code": "",
        }
    if refused := _REFUSED.search(text):
        cause = "issue" if text.startswith("no token") else "refused"
        return {"waiting": cause, "status": int(refused[1]), "code": refused[2] or ""}
    if text.startswith("no token"):
        return {"waiting": "issue", "status": 0}
    return {"waiting": "lost", "status": 0}
