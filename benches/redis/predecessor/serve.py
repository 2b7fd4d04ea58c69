"""`uvicorn app:app --workers 2`, with its access log as by default, gone as soon as the benchmark is.

The port is the only argument. The benchmark holds the other end of the standard input, and this process leads a group
of its own, which the workers belong to.
"""

import os
import signal
import sys
import threading

import uvicorn


def end_with_the_benchmark() -> None:
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=end_with_the_benchmark, daemon=True).start()
    uvicorn.run(
        "app:app",
        host="127.0.0.1",
        port=int(sys.argv[1]),
        workers=2,
    )
