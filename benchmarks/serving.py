"""A server of a benchmark in a process of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def serving(port: int, *arguments: str, **environment: str) -> Iterator[int]:
    """Run `python -m …` until the block ends, from the moment on when it listens at this port; its process id."""
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env={**os.environ, **environment},
        stderr=subprocess.DEVNULL,  # its log would run into the table of figures
    )
    try:
        while not _listens(port):
            if process.poll() is not None:
                raise RuntimeError(
                    f"`python -m {' '.join(arguments)}` ended before it listened at port {port}: run it"
                )
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
