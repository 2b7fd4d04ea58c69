"""Runs cases on the synchronous Python client, each on a thread."""

import json
import sys
import threading

import httpx
from python_notes import NO_AUTHORITIES, Spec, facts, issued, noting, options, publication

import vx11_events as vx11


def run(spec: Spec, client: vx11.Client) -> None:
    with noting(spec["case"]) as note:
        if "subscribe" in spec:
            arguments = options(spec)
            if spec["backend"]:
                arguments["issue_token"] = lambda: issued(
                    httpx.post(spec["backend"], verify=NO_AUTHORITIES)
                )
            for message in client.subscribe(**arguments):
                note(**facts(message))
        elif "publish" in spec:
            published = client.publish(spec["publish"]["data"], **publication(spec))
            note(published=published.id, earlier=published.earlier)
        else:
            note(token=client.issue(**spec["issue_token"]).sse_token)


def main() -> None:
    clients: dict[str, vx11.Client] = {}
    for line in sys.stdin:
        command = json.loads(line)
        if "stop" in command:
            clients[command["stop"]].close()
            continue
        client = clients[command["case"]] = vx11.Client(
            command["url"], command["principal"], verify=NO_AUTHORITIES
        )
        threading.Thread(target=run, args=(command, client), daemon=True).start()


if __name__ == "__main__":
    main()
