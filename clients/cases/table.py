"""The table of client cases: reads and checks the files in `table`, for one client at a time."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parent / "table"
CLIENTS = ("browser", "python", "command_line")
"""Implementations of the rules. `python` is the synchronous and the asynchronous client."""

_FILE_KEYS = {"group", "about", "case"}
_DO = ("subscribe", "publish", "issue_token")


class TableError(Exception):
    """The table itself is wrong."""


@dataclass(frozen=True)
class Case:
    """A rule, the script of the server, and what has to follow."""

    name: str
    rule: str
    group: str
    subscribe: dict[str, Any] | None = None
    publish: dict[str, Any] | None = None
    issue_token: dict[str, Any] | None = None
    backend: bool = False
    """Tokens come from the application's own backend, not from the service."""
    issue: list[dict[str, Any]] = field(default_factory=list)
    """Answers to requests for a token; after the last one, and by default, each gets a token."""
    stream: list[dict[str, Any]] = field(default_factory=list)
    """`asks`: what the request has to be; `answers`: steps."""
    attempt: list[dict[str, Any]] = field(default_factory=list)
    """The same for attempts to publish."""
    gets: list[dict[str, Any]] = field(default_factory=list)
    """Messages that the application gets, all of them and in order."""
    ends: str | None = None
    """Final state; none: the client goes on."""
    jitter: bool = False
    """Waits with `at_most_ms` have to be random below it."""
    grows: bool = False
    """The largest wait has to be above the first bound."""
    not_for: dict[str, str] = field(default_factory=dict)
    """Clients that the case does not hold for, each with the reason."""
    differs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Other values for a client, with the reason as `why`."""

    def of(self, client: str) -> "Case":
        """The case with the values of this client."""
        values = dict(self.differs.get(client, {}))
        values.pop("why", None)
        case = Case(**{**vars(self), **values})
        return Case(
            **{
                **vars(case),
                "gets": [_without(client, note) for note in case.gets if _is_for(client, note)],
            }
        )


def _is_for(client: str, note: dict[str, Any]) -> bool:
    return client not in note.get("not_for", ())


def _without(client: str, note: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in note.items() if key != "not_for"}


def load() -> list[Case]:
    """All cases in their order."""
    cases = [case for file in sorted(TABLE.glob("*.toml")) for case in _cases(file)]
    names = [case.name for case in cases]
    if len(set(names)) < len(names):
        raise TableError(f"used twice: {sorted({name for name in names if names.count(name) > 1})}")
    return cases


def _cases(file: Path) -> list[Case]:
    content = tomllib.loads(file.read_text())
    if content.keys() - _FILE_KEYS:
        raise TableError(f"{file.name}: unknown keys {content.keys() - _FILE_KEYS}")
    return [_case(content["group"], facts) for facts in content["case"]]


def _case(group: str, facts: dict[str, Any]) -> Case:
    name = facts.get("name", "?")
    try:
        case = Case(group=group, **facts)
        for client in CLIENTS:
            case.of(client)
    except TypeError as error:
        raise TableError(f"{name}: {error}") from None
    if sum(facts.get(action) is not None for action in _DO) != 1:
        raise TableError(f"{name}: needs one of {', '.join(_DO)}")
    for client, reason in case.not_for.items() | {
        (it, case.differs[it].get("why")) for it in case.differs
    }:
        if client not in CLIENTS or not reason:
            raise TableError(f"{name}: an exception needs a client of {CLIENTS} and a reason")
    return case
