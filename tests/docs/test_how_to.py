"""Every command of the how-tos and of the README, typed one after another at one running installation."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from calltally.sandbox.calls import Route
from calltally.sandbox.server import RunningSandbox, running_sandbox
from calltally.sandbox.stripe_objects import Payment
from calltally.sandbox.traffic import Traffic
from calltally.sandbox.world import Sandbox
from tests.scenarios.installation import Installation, installed

from .pages import ROOT, blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HOW_TO = ROOT / "docs" / "how-to"
TOKEN = "how-to"
ASSISTANT = "a3d6c1f2-9b44-4e0b-8f52-6c1e7d90ab34"
"""Of the pages."""
TELLS_BY_ITS_EXIT_CODE = re.compile(r"calltally (doctor|status|books check)\b")
RUNS_UNTIL_CTRL_C = "calltally up"
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


class Operator:
    """Somebody with the pages before them, who puts their own ids and days in place of the pages'."""

    def __init__(self, installation: Installation, sandbox: RunningSandbox) -> None:
        self.installation = installation
        self.sandbox = sandbox
        self.typed: list[str] = []
        self.said = ""

    def follow(self, page: Path, **own: str) -> None:
        """Every command of a page, in its order; each of them works."""
        for block in blocks(page, "sh"):
            for line in block.text.replace("\\\n", " ").splitlines():
                if line.startswith(("calltally ", "curl ")) and not line.startswith(RUNS_UNTIL_CTRL_C):
                    self.type(self.adapted(line, own))

    def type(self, line: str) -> None:
        """One command; what it prints is kept for the next."""
        done = subprocess.run(
            ["bash", "-c", f'calltally() {{ "{sys.executable}" -m calltally "$@"; }}; {line}'],
            env=self.environment(),
            cwd=self.installation.home,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        self.typed.append(line)
        self.said = done.stdout + done.stderr
        allowed = {0, 1} if TELLS_BY_ITS_EXIT_CODE.match(line) else {0}
        assert done.returncode in allowed, f"{line}\n{self.said}"
        assert "Traceback" not in self.said, f"{line}\n{self.said}"

    def environment(self) -> dict[str, str]:
        """Where the installation is, and its code."""
        here = {
            "PREFECT_API_URL": self.installation.prefect_api_url,
            "OPERATOR_TOKEN": TOKEN,
            "PYTHONPATH": str(ROOT),
        }
        return {**os.environ, **self.installation.environment, **here}

    def adapted(self, line: str, own: dict[str, str]) -> str:
        """The line as it must be here and today."""
        known = {
            "2026-11-20": f"{TODAY - timedelta(days=1):%F}",
            "2026-11-21": f"{TODAY:%F}",
            "2026-11-08": f"{TODAY - timedelta(days=4):%F}",
            "2026-11-01": f"{TODAY - timedelta(days=20):%F}",
            "https://billing.example.com": self.installation.receiver_url,
            **own,
        }
        for theirs, ours in known.items():
            line = line.replace(theirs, ours)
        line = re.sub(r"--apply \S+", lambda _: f"--apply {self.plan()}", line)
        line = re.sub(r"--plan \S+", lambda _: f"--plan {self.replay_plan()}", line)
        line = re.sub(r"events show \d+", lambda _: f"events show {self.dead_event()}", line)
        return re.sub(r"explain \S+", lambda _: f"explain {self.a_call()}", line)

    def plan(self) -> str:
        """The night that was rehearsed last."""
        query = "SELECT id FROM reconciliation_runs WHERE dry_run AND state = 'completed' ORDER BY started_at DESC"
        return str(self.installation.ask(query)[0]["id"])

    def replay_plan(self) -> str:
        """The one that the last rehearsal showed."""
        found = re.search(r"--plan\s+(\w+)", self.said)
        assert found, self.said
        return found[1]

    def dead_event(self) -> int:
        """One that failed for good."""
        query = "SELECT id FROM events WHERE state = 'dead' UNION ALL SELECT id FROM events LIMIT 1"
        return int(self.installation.ask(query)[0]["id"])

    def a_call(self) -> str:
        """One that is charged."""
        return str(self.installation.ask("SELECT id FROM calls WHERE organization_id IS NOT NULL LIMIT 1")[0]["id"])

    def post_what_cannot_be_read(self) -> None:
        """A report without the call that it is about."""
        secret = self.sandbox.environment()["VAPI_WEBHOOK_SECRETS"].split(",")[0]
        answer = httpx.post(
            f"{self.installation.receiver_url}/webhooks/vapi",
            headers={"Authorization": f"Bearer {secret}"},
            json={"message": {"type": "end-of-call-report", "timestamp": 1}},
            trust_env=False,
        )
        assert answer.status_code == 200


@pytest.fixture
def operator() -> Iterator[Operator]:
    """At an installation beside the imitated providers."""
    with tempfile.TemporaryDirectory(prefix="ct-") as home, running_sandbox(Sandbox(seed=5)) as sandbox:
        environment = {**sandbox.environment(), "OPERATOR_TOKEN": TOKEN}
        with installed(Path(home), environment) as installation:
            yield Operator(installation, sandbox)


def test_commands_of_the_pages_work_one_after_another(operator: Operator) -> None:
    """A customer comes, calls and a payment go unnoticed, an event dies; the pages mend it all."""
    operator.follow(HOW_TO / "onboard-an-organization.md")
    vapi, stripe = operator.sandbox.vapi, operator.sandbox.stripe
    yesterday = TODAY - timedelta(hours=20), TODAY - timedelta(hours=2)
    vapi.place_calls(Traffic(12, (Route(assistant_id=ASSISTANT),), *yesterday, detail="slim"))
    organization = str(operator.installation.ask("SELECT id FROM organizations")[0]["id"])
    stripe.pay_topup(Payment(10_000, client_reference_id=organization), at=TODAY - timedelta(days=1))

    operator.follow(HOW_TO / "backfill.md")
    operator.follow(HOW_TO / "reconcile-by-hand.md")
    operator.post_what_cannot_be_read()
    operator.follow(HOW_TO / "replay-events.md")
    operator.follow(ROOT / "README.md", **{"Acme Dental": "Acme Orthodontics", ASSISTANT: str(uuid4())})

    books = operator.installation.ask
    assert len(operator.typed) > 40
    assert books("SELECT count(*) AS calls FROM calls WHERE reconciled") == [{"calls": 12}]
    assert books("SELECT count(*) AS topups FROM transfers WHERE kind = 'topup'") == [{"topups": 1}]
    assert books("SELECT * FROM check_books()") == []
