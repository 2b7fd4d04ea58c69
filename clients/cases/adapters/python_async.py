"""Runs cases on the asynchronous Python client, each as a task."""

import asyncio
import json
import sys
from typing import Any

import httpx
from python_notes import NO_AUTHORITIES, Spec, facts, issued, noting, options, publication

import vx11_events as vx11


async def run(spec: Spec) -> None:
    async def from_backend() -> Any:
        async with httpx.AsyncClient(verify=NO_AUTHORITIES) as backend:
            return issued(await backend.post(spec["backend"]))

    with noting(spec["case"]) as note:
        async with vx11.AsyncClient(
            spec["url"], spec["principal"], verify=NO_AUTHORITIES
        ) as client:
            if "subscribe" in spec:
                arguments = options(spec)
                if spec["backend"]:
                    arguments["issue_token"] = from_backend
                async for message in client.subscribe(**arguments):
                    note(**facts(message))
            elif "publish" in spec:
                published = await client.publish(spec["publish"]["data"], **publication(spec))
                note(published=published.id, earlier=published.earlier)
            else:
                note(token=(await client.issue(**spec["issue_token"])).sse_token)


async def main() -> None:
    cases: dict[str, asyncio.Task[None]] = {}
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        if "stop" in command:
            cases[command["stop"]].cancel()
        else:
            cases[command["case"]] = asyncio.create_task(run(command))


if __name__ == "__main__":
    asyncio.run(main())
