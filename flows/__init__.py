"""The deployed flows, one per file."""

import os

from billing.literal import log_literally
from billing.process import get_engine
from billing.settings import get_settings
from billing.telemetry import start_telemetry

log_literally()
if "PREFECT__FLOW_RUN_ID" in os.environ:  # a process that Prefect has started for one run, such as a night
    start_telemetry(get_settings(), "flows", get_engine())
