"""The receiver with the INSERT left out: what HTTP, signature and identity cost alone."""

import socket
from collections.abc import Sequence

import uvicorn
from sqlalchemy import Engine

from billing import inbox
from billing.deliveries import Delivery
from billing.process import get_engine
from billing.settings import get_settings
from receiver.app import create_app
from receiver.connections import server_config


def forget(engine: Engine, deliveries: Sequence[Delivery]) -> None:
    """Accept without storing."""


inbox.accept = forget
settings = get_settings()
with socket.create_server((settings.receiver_host, settings.receiver_port)) as listener:
    config = server_config(create_app(settings, get_engine()), settings)
    uvicorn.Server(config).run(sockets=[listener])
