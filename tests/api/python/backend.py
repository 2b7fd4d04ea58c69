"""Runs the backend of a page in-process. Usage: backend.py FILE

Reads a command as a line of JSON, and prints its answer as one:
  {"path": "/token", "user": "7"}                     a POST of a page, as a user if the code has users
  {"function": "publish", "arguments": ["greeting", 1]}  a call of one of its functions
"""

import asyncio
import importlib.util
import json
import sys

import httpx


async def carry_out(backend, command):
    if function := command.get("function"):
        try:
            return {"returned": await getattr(backend, function)(*command["arguments"])}
        except Exception as error:
            return {"raised": type(error).__name__}
    if "user" in command:
        backend.app.dependency_overrides[backend.user_id] = lambda: command["user"]
    page = httpx.AsyncClient(transport=httpx.ASGITransport(app=backend.app), base_url="http://pages")
    answer = await page.post(command["path"])
    return {"status": answer.status_code, "headers": dict(answer.headers), "body": answer.text}


async def main():
    spec = importlib.util.spec_from_file_location("backend", sys.argv[1])
    backend = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(backend)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await carry_out(backend, json.loads(line))), flush=True)


asyncio.run(main())
