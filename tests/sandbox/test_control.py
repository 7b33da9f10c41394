"""The sandbox as a whole: control routes, addresses, start and stop."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from calltally.sandbox.server import RunningSandbox, running_sandbox, serve
from calltally.sandbox.signing import VapiHmac
from calltally.sandbox.world import Sandbox

from .conftest import Endpoint


@pytest.fixture
def control(sandbox: RunningSandbox) -> Iterator[httpx.Client]:
    """A client of the control routes."""
    with httpx.Client(base_url=f"{sandbox.base_url}/control", trust_env=False) as client:
        yield client


def test_story_with_curl_places_delivers_and_pays(
    sandbox: RunningSandbox, control: httpx.Client, endpoint: Endpoint
) -> None:
    """Place 50 calls, deliver them with 8 % of the reports lost, pay a top-up twice over."""
    sandbox.sandbox.vapi_target = sandbox.sandbox.stripe_target = endpoint.url
    placed = control.post("/vapi/calls", json={"count": 50, "never_connected_share": 0}).json()
    sent = control.post("/vapi/deliver", json={"weather": {"lost_reports_share": 0.08}}).json()
    paid = control.post(
        "/stripe/topups",
        json={
            "payment": {"amount_minor": 5_000, "customer": "cus_demo"},
            "weather": {"duplicate_rate": 1.0},
        },
    ).json()

    assert placed["placed"] == 50
    assert (sent["deliveries"], len(sent["lost_reports"]), sent["statuses"]) == (146, 4, {"200": 146})
    assert (paid["deliveries"], paid["duplicates"]) == (4, 2)
    assert len(endpoint.received) == 150
    state = control.get("/state").json()
    assert (state["vapi"]["calls"], state["vapi"]["unsent"]) == ({"ended": 50}, 0)
    assert state["stripe"]["undelivered"] == 0


def test_payment_is_refunded_and_disputed_by_its_id(
    sandbox: RunningSandbox, control: httpx.Client, endpoint: Endpoint
) -> None:
    """What tells of it is signed and sent; a payment that nobody made is 404."""
    sandbox.sandbox.stripe_target = endpoint.url
    payment_id = control.post("/stripe/topups", json={"payment": {"amount_minor": 5_000}}).json()["payment_intent"]
    refund = {"payment_intent": payment_id, "amount_minor": 2_000}
    refunded = control.post("/stripe/refunds", json={**refund, "outcome": "fails"}).json()
    disputed = control.post("/stripe/disputes", json=refund).json()

    assert (refunded["statuses"], disputed["statuses"]) == ({"200": 4}, {"200": 3})
    assert control.post("/stripe/refunds", json={**refund, "payment_intent": "pi_none"}).status_code == 404


def test_calls_are_finished_corrected_and_deleted(sandbox: RunningSandbox, control: httpx.Client) -> None:
    """One call goes through its life by control routes alone."""
    order = {"count": 1, "in_progress": 1, "routes": [{"squad_id": "squad"}]}
    (call_id,) = control.post("/vapi/calls", json=order).json()["call_ids"]

    finished = control.post(f"/vapi/calls/{call_id}/finish", json={"duration_ms": 60_000}).json()
    corrected = control.post(f"/vapi/calls/{call_id}/correct", json={"cost": "0.5"}).json()
    control.post(f"/vapi/calls/{call_id}/spoil", json={"cost": "abc", "createdAt": None})
    spoiled = sandbox.vapi.shown(call_id)
    deleted = control.delete(f"/vapi/calls/{call_id}")

    assert (finished["status"], corrected["cost"]) == ("ended", 0.5)
    assert (spoiled["cost"], "createdAt" in spoiled) == ("abc", False)
    assert (deleted.status_code, len(sandbox.vapi)) == (204, 0)


def test_faults_are_queued_and_cleared(sandbox: RunningSandbox, control: httpx.Client) -> None:
    """A fault ordered here spoils the provider's next answer."""
    control.post("/slack/faults", json={"status": 500, "body": "rollup_error", "times": 3})
    response = httpx.post(sandbox.slack_webhook_url, json={"text": "x"}, trust_env=False)
    control.delete("/slack/faults")

    assert (response.status_code, response.text) == (500, "rollup_error")
    assert len(sandbox.slack.faults) == 0


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/vapi/calls", {"never_connected": 0.5}, 400, "unknown fields: never_connected"),
        ("/vapi/calls", {"count": "many"}, 400, "Expected `int`"),
        ("/vapi/calls", {"routes": []}, 400, "at least one route"),
        ("/vapi/deliver", {"weather": {"loss_rate": 8}}, 400, "between 0 and 1"),
        ("/vapi/deliver", {}, 400, "no webhook URL"),
        ("/vapi/deliver", {"call_ids": ["nobody"]}, 404, "nobody"),
        ("/paypal/faults", {}, 404, "paypal"),
    ],
)
def test_mistaken_order_is_explained(
    control: httpx.Client, path: str, body: dict[str, object], status: int, words: str
) -> None:
    """A mistake answers with words instead of passing for a default."""
    response = control.post(path, json=body)

    assert status == response.status_code
    assert words in response.json()["error"]


def test_environment_points_at_the_sandbox() -> None:
    """The settings name addresses and secrets that work together."""
    sandbox = Sandbox(vapi_signer=VapiHmac("key"), stripe_secrets=("whsec_a", "whsec_b"))

    with running_sandbox(sandbox) as running:
        environment = running.environment()

    assert (environment["VAPI_WEBHOOK_AUTH"], environment["VAPI_WEBHOOK_SECRETS"]) == ("hmac", "key")
    assert environment["STRIPE_WEBHOOK_SECRETS"] == "whsec_a,whsec_b"
    assert environment["VAPI_BASE_URL"] == f"{running.base_url}/vapi"


def test_stopped_sandbox_frees_its_port() -> None:
    """The same port can be served again at once."""
    with running_sandbox() as first:
        assert httpx.get(f"{first.base_url}/control/state", trust_env=False).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{first.base_url}/control/state", trust_env=False)

    with running_sandbox(port=first.port) as second:
        assert first.base_url == second.base_url


def test_serving_beyond_loopback_is_refused() -> None:
    """The sandbox has well-known keys, so nobody else may reach it."""
    with pytest.raises(ValueError, match="loopback"):
        serve("0.0.0.0", 0)
