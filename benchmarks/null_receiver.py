"""The receiver with the INSERT left out: what HTTP, signature and identity cost alone."""

from collections.abc import Sequence

import uvicorn
from sqlalchemy import Engine

from billing import inbox
from billing.deliveries import Delivery
from billing.process import get_engine
from billing.settings import get_settings
from receiver.app import create_app


def forget(engine: Engine, deliveries: Sequence[Delivery]) -> None:
    """Accept without storing."""


inbox.accept = forget
settings = get_settings()
uvicorn.run(
    create_app(settings, get_engine()),
    host=settings.receiver_host,
    port=settings.receiver_port,
    log_level="warning",
    access_log=False,
)
