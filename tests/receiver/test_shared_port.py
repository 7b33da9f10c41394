"""Several receivers may share one port, so that one can be replaced without a gap."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from socket import create_server

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from tests.books import Books
from tests.receiver.conftest import VAPI_SECRET
from tests.receiver.serving import LOOPBACK


@contextmanager
def receiver_process(database_url: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`calltally receiver`, once it listens."""
    env = {
        **os.environ,
        "DATABASE_URL": database_url,
        "VAPI_WEBHOOK_SECRETS": VAPI_SECRET,
        "RECEIVER_PORT": str(port),
    }
    process = subprocess.Popen([sys.executable, "-m", "calltally", "receiver"], env=env)
    try:
        while not any(known.status == psutil.CONN_LISTEN for known in psutil.Process(process.pid).net_connections()):
            assert process.poll() is None
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait()


def send(port: int, number: int) -> int:
    """A webhook of its own, over a connection of its own."""
    message = {"type": "status-update", "status": "ended", "call": {"id": f"call-{number}"}}
    url = f"http://{LOOPBACK}:{port}/webhooks/vapi"
    with httpx.Client(trust_env=False, headers={"Authorization": f"Bearer {VAPI_SECRET}"}) as client:
        return client.post(url, json={"message": message}).status_code


@pytest.mark.slow
def test_receiver_takes_over_the_port_of_another(database_url: str, books: Books) -> None:
    """The second one starts beside the first, and serves on alone when that is told to stop."""
    with create_server((LOOPBACK, 0)) as probe:
        port = probe.getsockname()[1]
    with receiver_process(database_url, port) as first:
        assert send(port, 1) == 200
        with receiver_process(database_url, port):
            first.terminate()
            first.wait()

            assert [send(port, number) for number in range(2, 12)] == [200] * 10
    assert books.value("SELECT count(*) FROM events") == 11
