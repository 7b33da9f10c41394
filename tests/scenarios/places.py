"""When and where scenarios play."""

import socket
from datetime import UTC, datetime, timedelta

DAY_END = datetime.now(UTC) - timedelta(hours=2)
DAY_START = DAY_END - timedelta(hours=18)


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port
