"""Running a case on a client, and reading its notes: messages in the form of the table.

The Python and the browser client have an adapter, one process for all cases: it reads commands and
prints notes, each as a line of JSON with the name of its case. The command line is started for each
case.
"""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from adapters import command_line
from table import Case

Note = dict[str, Any]
HERE = Path(__file__).parent
PRINCIPAL = "credential-of-the-principal"
_FAST = {"min_backoff_ms": 20, "max_backoff_ms": 100}
"""Short waits, for clients that have options for them."""
_LONGEST_LINE = 8 * 1024 * 1024


@dataclass
class Notes:
    """Messages of a case, so far."""

    seen: list[Note] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    has_ended: bool = False

    def add(self, notes: list[Note]) -> None:
        self.seen += notes
        self.changed.set()

    def end(self) -> None:
        self.has_ended = True
        self.changed.set()


class Client(Protocol):
    """A client that cases run on."""

    name: str
    implementation: str
    """Its name in the table."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    def running(self, case: Case, url: str) -> AbstractAsyncContextManager[Notes]: ...


def specification(case: Case, url: str) -> Note:
    """The case as a client gets it: without its script."""
    spec: Note = {"case": case.name, "url": url, "principal": PRINCIPAL, "backend": ""}
    if case.backend:
        spec["backend"] = f"{url}/backend/token"
    for action in ("subscribe", "publish", "issue_token"):
        options = getattr(case, action)
        if options is not None:
            spec[action] = (_FAST if action == "subscribe" else {}) | options
    return spec


class Adapter:
    """A client with an adapter."""

    def __init__(self, name: str, implementation: str, command: list[str]) -> None:
        self.name = name
        self.implementation = implementation
        self._command = command
        self._notes: dict[str, Notes] = {}

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        environment = {"PATH": os.environ["PATH"]}
        environment["PYTHONPATH"] = str(HERE.parent / "python" / "src")
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, env=environment, limit=_LONGEST_LINE
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._reading

    @asynccontextmanager
    async def running(self, case: Case, url: str) -> AsyncIterator[Notes]:
        notes = self._notes[case.name] = Notes(has_ended=self._reading.done())
        self._send(specification(case, url))
        try:
            yield notes
        finally:
            self._send({"stop": case.name})

    def _send(self, command: Note) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def _read(self) -> None:
        assert self._process.stdout
        while line := await self._process.stdout.readline():
            note = json.loads(line)
            self._notes[note.pop("case")].add([note])
        for notes in self._notes.values():
            notes.end()
        await self._process.wait()


def python(flavour: str, program: str) -> Adapter:
    adapter = str(HERE / "adapters" / f"python_{flavour}.py")
    return Adapter("python" if flavour == "sync" else "python-async", "python", [program, adapter])


def browser(program: str, module: Path) -> Adapter:
    command = [program, str(HERE / "adapters" / "browser.mjs"), str(module)]
    return Adapter("browser", "browser", command)


@contextmanager
def browser_module() -> Iterator[Path]:
    """The browser client in a folder that Node takes for one of ES modules."""
    with tempfile.TemporaryDirectory() as folder:
        for file in (HERE.parent / "browser").glob("*.js"):
            shutil.copy(file, folder)
        (Path(folder) / "package.json").write_text('{"type": "module"}')
        yield Path(folder) / "vx11-events.js"


class CommandLine:
    """`vx11-operator`, a process for each case."""

    name = "command-line"
    implementation = "command_line"

    def __init__(self, program: str) -> None:
        self._program = str(Path(program).resolve())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    @asynccontextmanager
    async def running(self, case: Case, url: str) -> AsyncIterator[Notes]:
        spec = specification(case, url)
        environment = {"VX11_OPERATOR_URL": url, "VX11_PRINCIPAL_TOKEN": PRINCIPAL}
        # One pipe for both outputs: the order of events and messages is known.
        process = await asyncio.create_subprocess_exec(
            self._program,
            *command_line.arguments(spec),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=_LONGEST_LINE,
        )
        notes = Notes()
        reading = asyncio.create_task(_read(process, command_line.Translator(spec), notes))
        try:
            yield notes
        finally:
            if process.returncode is None:
                process.kill()
            await reading


async def _read(
    process: asyncio.subprocess.Process, translator: command_line.Translator, notes: Notes
) -> None:
    assert process.stdout
    while line := await process.stdout.readline():
        notes.add(translator.line(line.decode().rstrip("\n")))
    notes.add(translator.end(await process.wait()))
    notes.end()
