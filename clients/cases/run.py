#!/usr/bin/env python3
"""Runs the table of client cases on a client, and writes docs/client-cases.md.

run.py python --program target/venv/bin/python   an interpreter with httpx
run.py command-line --program target/debug/vx11-operator
run.py browser                                   Node 18 or later, with its fetch
run.py page --write                              the page, from the table; without --write: compare
"""

import argparse
import asyncio
import sys

import client as clients
import judge
import page
from client import Client
from server import Server
from table import Case, load

PATIENCE = 60.0
"""Seconds for a case, on a busy machine."""
AT_ONCE = 6
"""Cases that run at the same time."""


async def run_case(client: Client, case: Case) -> list[str]:
    """Runs a case; returns what was wrong."""
    async with Server(case) as server, client.running(case, server.url) as notes:
        # Both set one event: a case goes on with a request or with a note.
        notes.changed = server.changed
        try:
            async with asyncio.timeout(PATIENCE):
                while not is_complete(case, server, notes):
                    server.changed.clear()
                    await server.changed.wait()
        except TimeoutError:
            pass  # what is missing is a fault
        return list(judge.faults(case, server, notes.seen))


def is_complete(case: Case, server: Server, notes: clients.Notes) -> bool:
    """Whether nothing more is to come, or something came too often."""
    wanted = len(case.gets) + bool(case.ends)
    seen = [note for note in notes.seen if judge.is_wanted(note, case)]
    streams, attempts = len(server.of("stream")), len(server.of("publish"))
    too_many = streams > len(case.stream) or attempts > len(case.attempt) or len(seen) > wanted
    is_there = streams == len(case.stream) and attempts == len(case.attempt) and len(seen) == wanted
    return notes.has_ended or too_many or is_there


async def run(client: Client, cases: list[Case]) -> int:
    """Runs cases; returns how many failed."""
    at_once, failed = asyncio.Semaphore(AT_ONCE), 0

    async def one(case: Case) -> list[str]:
        async with at_once:
            return await run_case(client, case)

    async with client:
        results = await asyncio.gather(*(one(case) for case in cases))
    for case, faults in zip(cases, results, strict=True):
        failed += bool(faults)
        for fault in faults:
            print(f"{client.name}: {case.name}: {fault}\n    {case.rule}", file=sys.stderr)
    print(f"{client.name}: {len(cases) - failed} of {len(cases)} cases hold")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the table of client cases.")
    parser.add_argument(
        "what", choices=["python", "python-async", "browser", "command-line", "page"]
    )
    parser.add_argument("--program", help="Python with the package, vx11-operator, or node")
    parser.add_argument("--only", help="cases whose name contains this text")
    parser.add_argument("--write", action="store_true", help="write the page")
    arguments = parser.parse_args()
    if arguments.what == "page":
        return page.run(load(), write=arguments.write)
    with clients.browser_module() as module:
        client: Client
        match arguments.what:
            case "browser":
                client = clients.browser(arguments.program or "node", module)
            case "command-line":
                client = clients.CommandLine(arguments.program or "target/debug/vx11-operator")
            case "python":
                client = clients.python("sync", arguments.program or sys.executable)
            case _:
                client = clients.python("async", arguments.program or sys.executable)
        implementation = client.implementation
        cases = [case.of(implementation) for case in load() if implementation not in case.not_for]
        cases = [case for case in cases if (arguments.only or "") in case.name]
        return min(1, asyncio.run(run(client, cases)))


if __name__ == "__main__":
    sys.exit(main())
