"""`calltally doctor` looks at real settings, a real database, and a sandbox of the providers over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import psycopg
import pytest

from billing.settings import Settings, get_settings
from calltally.doctor.reports import check_reports
from calltally.doctor.settings import check_settings
from calltally.doctor.stripe import check_stripe
from calltally.doctor.twilio import check_twilio
from calltally.doctor.vapi import check_vapi
from calltally.sandbox.faults import Fault
from calltally.sandbox.server import RunningSandbox, running_sandbox
from calltally.sandbox.stripe_endpoints import event_destination, webhook_endpoint
from calltally.sandbox.world import Sandbox
from tests.books import Books

from .conftest import Calltally

ROOT = Path(__file__).parents[2]
PUBLIC_URL = "https://billing.example.com"
NEEDED = [
    *("checkout.session.completed", "checkout.session.async_payment_succeeded", "payment_intent.succeeded"),
    *("refund.created", "refund.updated", "refund.failed"),
    *("charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated"),
]
SERVER = {
    "url": f"{PUBLIC_URL}/webhooks/vapi",
    "credentialId": "cred-1",
    "backoffPlan": {"type": "fixed", "maxRetries": 5, "baseDelaySeconds": 2},
}
SECRETS = ("sk_live_very_secret", "whsec_very_secret", "vapi-private-very-secret", "pass-of-the-url")


@pytest.fixture
def sandbox(environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningSandbox]:
    """A sandbox that the settings point at, and a public address that leads nowhere."""
    with running_sandbox(Sandbox(seed=7)) as running:
        for name, setting in running.environment().items():
            monkeypatch.setenv(name, setting)
        monkeypatch.setenv("PUBLIC_URL", PUBLIC_URL)
        monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
        get_settings.cache_clear()
        yield running


def found(calltally: Calltally, area: str) -> list[dict[str, Any]]:
    """What the doctor says of one area."""
    answer = calltally("doctor", "--json").json
    return [finding for finding in answer["findings"] if finding["area"] == area]


def said(findings: list[dict[str, Any]]) -> dict[str, str]:
    """What is wrong, and how to mend it."""
    return {finding["what"]: finding["fix"] for finding in findings if finding["verdict"] != "ok"}


def test_assistants_that_lose_reports_are_named_with_their_patch(
    calltally: Calltally, sandbox: RunningSandbox, books: Books
) -> None:
    """Wrong address, no retries, no credential, no report: each has its trouble and one patch for all of it."""
    setup = sandbox.vapi.setup
    setup.add_assistant("a-well", "Well", server=SERVER)
    setup.add_assistant("a-lost", "Lost", server={**SERVER, "url": "https://old.example.com/hook?token=very-secret"})
    setup.add_assistant("a-once", "Once", server={"url": SERVER["url"]}, serverMessages=["status-update"])
    setup.add_assistant("a-none", "None")
    setup.add_phone_number("n-1", "Main line", server={**SERVER, "backoffPlan": None})
    books.route(books.organization("Acme"), "a-well")
    findings = found(calltally, "vapi")
    troubles = said(findings)
    once = next(finding for finding in findings if finding["facts"].get("id") == "a-once")

    lost = "assistant Lost (a-lost): it reports to https://old.example.com/hook, not to https://billing.example.com"
    assert [finding["what"] for finding in findings if finding["verdict"] == "ok"] == [
        "the key is accepted: 4 assistant(s), 0 squad(s), 1 phone number(s)",
        f"1 assistant(s), squad override(s) and number(s) report to {SERVER['url']}, with retries and a credential",
    ]
    assert f"{lost}/webhooks/vapi" in troubles
    assert "very-secret" not in str(findings)
    assert once["what"] == (
        "assistant Once (a-once): it has no backoffPlan, so a report that fails once is lost until the night;"
        " it has no credential, so its reports are refused with 401;"
        " end-of-call-report is not among its serverMessages, so it never reports"
    )
    assert once["facts"]["patch"]["serverMessages"] == ["status-update", "end-of-call-report"]
    assert once["facts"]["patch"]["server"]["backoffPlan"]["maxRetries"] == 10
    assert f"curl -X PATCH {sandbox.vapi_base_url}/assistant/a-once" in once["fix"]
    assert any(what.startswith("assistant None (a-none) has no server of its own") for what in troubles)
    assert any(what.startswith("phone number Main line (n-1): it has no backoffPlan") for what in troubles)
    assert troubles["assistant None (a-none) has no payer: its calls wait in quarantine"] == (
        "calltally route add ORG --assistant a-none"
    )
    assert "a-well" not in str(troubles)


BARE = {name: part for name, part in SERVER.items() if name != "credentialId"}
PROOFS: dict[str, dict[str, Any]] = {
    "by-credential": {"server": SERVER},
    "by-legacy-secret": {"serverUrl": SERVER["url"], "serverUrlSecret": "very-secret"},
    "by-secret": {"server": {**BARE, "secret": "very-secret"}},
    "by-secret-header": {"server": {**BARE, "headers": {"X-Vapi-Secret": "very-secret", "X-Team": "very-secret"}}},
    "by-bearer-header": {"server": {**BARE, "headers": {"authorization": "Bearer very-secret"}}},
}
SECRETLY = {"by-legacy-secret", "by-secret", "by-secret-header"}


@pytest.mark.parametrize(
    ("auth", "refused", "kind"),
    [
        ("bearer", SECRETLY, "Bearer token"),
        ("secret", {"by-bearer-header"}, "X-Vapi-Secret"),
        ("hmac", {*SECRETLY, "by-bearer-header"}, "HMAC"),
    ],
)
def test_credential_counts_only_where_the_receiver_looks_at_it(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch, auth: str, refused: set[str], kind: str
) -> None:
    """A secret is refused where a bearer token is awaited, and both ways out are told; a credential may be any."""
    for assistant_id, fields in PROOFS.items():
        sandbox.vapi.setup.add_assistant(assistant_id, "One", **fields)
    monkeypatch.setenv("VAPI_WEBHOOK_AUTH", auth)
    get_settings.cache_clear()
    findings = check_vapi(get_settings(), None)
    told = {finding.facts["id"]: finding for finding in findings if finding.facts and "refused" in finding.what}

    assert set(told) == refused
    for assistant_id, finding in told.items():
        header, other = ("X-Vapi-Secret", "secret") if assistant_id in SECRETLY else ("Authorization", "bearer")
        assert f"it sends {header}, which VAPI_WEBHOOK_AUTH={auth} does not look at" in finding.what
        assert f"/assistant/{assistant_id} -H" in str(finding.fix)
        assert f"where the credential is of the kind {kind}; or, if every" in str(finding.fix)
        assert f"set VAPI_WEBHOOK_AUTH={other} and VAPI_WEBHOOK_SECRETS" in str(finding.fix)
        assert ("not shown here: X-Team)" in str(finding.fix)) == (assistant_id == "by-secret-header")
    assert "very-secret" not in str(findings)


def test_long_list_of_assistants_is_read_to_its_end(
    calltally: Calltally, sandbox: RunningSandbox, books: Books
) -> None:
    """Pages of 100 without a cursor; of many troubles a person sees twenty."""
    for number in range(205):
        sandbox.vapi.setup.add_assistant(f"a-{number}", f"Number {number}", server={**SERVER, "backoffPlan": None})
    findings = found(calltally, "vapi")

    assert findings[0]["what"] == "the key is accepted: 205 assistant(s), 0 squad(s), 0 phone number(s)"
    assert "185 more have such troubles" in said(findings)


def test_squads_are_routed_as_a_whole(calltally: Calltally, sandbox: RunningSandbox, books: Books) -> None:
    """Its calls name no assistant, so the routes of its members say nothing about them, and need not be."""
    setup = sandbox.vapi.setup
    for assistant_id in ("a-paid", "a-owed", "a-both", "a-alone", "a-shared"):
        setup.add_assistant(assistant_id, assistant_id, server=SERVER)
    setup.add_squad("s-paid", "Paid", "a-paid", "a-shared", {"assistant": {"name": "Inside", "server": SERVER}})
    setup.add_squad("s-owed", "Owed", "a-owed", "a-both")
    setup.add_squad("s-number", "By number", {"assistant": {"server": SERVER}})
    setup.add_phone_number("n-both", "Both", assistantId="a-both")
    setup.add_phone_number("n-squad", "Squad", squadId="s-number")
    acme, beta = books.organization("Acme"), books.organization("Beta")
    for kind, external_id, organization_id in (
        ("squad", "s-paid", acme),
        ("assistant", "a-shared", beta),
        ("phone_number", "n-squad", acme),
    ):
        books.rows("SELECT add_route(:id, :kind, :what)", id=organization_id, kind=kind, what=external_id)
    troubles = said(found(calltally, "vapi"))

    assert set(troubles.values()) == {
        "calltally route add ORG --squad s-owed",
        "calltally route add ORG --phone-number n-both",
        "calltally route add ORG --assistant a-alone",
    }


def test_servers_that_are_written_into_squads_are_examined(sandbox: RunningSandbox) -> None:
    """Assistants inside, overrides of one member and of all: each is patched where it stands, and nothing is told."""
    setup, once, late = sandbox.vapi.setup, {"server": {**SERVER, "backoffPlan": None}}, ["status-update"]
    setup.add_assistant("a-1", "Saved", server=SERVER)
    setup.add_squad(
        "s-1",
        "Team",
        {"assistant": {"name": "Inside", "server": {**BARE, "headers": {"X-Vapi-Secret": "very-secret"}}}},
        {"assistantId": "a-1", "assistantOverrides": once},
        {"assistantId": "a-1", "assistantOverrides": {"serverMessages": late}},
        {"assistant": {"name": "Bare"}},
    )
    setup.add_squad(
        "s-2", "Elsewhere", "a-1", membersOverrides={"server": {**SERVER, "url": "https://old.example.com"}}
    )
    findings = {finding.what: finding for finding in check_vapi(get_settings(), None) if finding.fix}
    team, whole = "squad Team (s-1)", "squad Elsewhere (s-2)"
    bare, retries = (
        "has no server of its own: the phone number's or the organization's counts",
        "it has no backoffPlan",
    )
    inside = (
        "it sends X-Vapi-Secret, which VAPI_WEBHOOK_AUTH=bearer does not look at, so its reports are refused with 401"
    )
    silent = findings[
        f"assistantOverrides of member 3 of {team}: end-of-call-report is not among its serverMessages, so it never"
        " reports"
    ]

    assert set(findings) - {silent.what} == {
        f"assistant Inside, member 1 of {team}: {inside}",
        f"assistantOverrides of member 2 of {team}: {retries}, so a report that fails once is lost until the night",
        f"assistant Bare, member 4 of {team} {bare}",
        f"membersOverrides of {whole}: it reports to https://old.example.com, not to {SERVER['url']}",
    }
    assert silent.facts == {
        "id": "s-1",
        "inside": ".members[2].assistantOverrides",
        "patch": {"serverMessages": ["status-update", "end-of-call-report"]},
    }
    assert silent.fix == (
        f'curl -s {sandbox.vapi_base_url}/squad/s-1 -H "Authorization: Bearer $VAPI_API_KEY"'
        """ | jq '.members[2].assistantOverrides += {"serverMessages": ["status-update", "end-of-call-report"]}"""
        " | {name, members, membersOverrides} | with_entries(select(.value != null))'"
        f' | curl -X PATCH {sandbox.vapi_base_url}/squad/s-1 -H "Authorization: Bearer $VAPI_API_KEY"'
        " -H 'Content-Type: application/json' -d @-"
    )
    assert "very-secret" not in str(findings)


def test_overrides_of_a_squad_decide_and_what_they_leave_out_is_inherited(sandbox: RunningSandbox) -> None:
    """Those of all members go before those of one, and both before the assistant; none without a server needs one."""
    wrong = {"server": {"url": "https://old.example.com"}, "serverMessages": ["status-update"]}
    well = {"server": SERVER, "serverMessages": ["end-of-call-report"]}
    setup = sandbox.vapi.setup
    setup.add_assistant("a-1", "Saved", server=SERVER)
    setup.add_squad("s-1", "One", {"assistant": wrong, "assistantOverrides": well})
    setup.add_squad("s-2", "All", {"assistant": wrong, "assistantOverrides": wrong}, membersOverrides=well)
    setup.add_squad("s-3", "Voice", {"assistantId": "a-1", "assistantOverrides": {"voice": {}}}, membersOverrides={})
    findings = check_vapi(get_settings(), None)

    assert [finding.what for finding in findings] == [
        "the key is accepted: 1 assistant(s), 3 squad(s), 0 phone number(s)",
        f"3 assistant(s), squad override(s) and number(s) report to {SERVER['url']}, with retries and a credential",
    ]


def test_endpoint_of_stripe_is_compared_with_what_is_needed(calltally: Calltally, sandbox: RunningSandbox) -> None:
    """Disabled, without a type, in the other mode, of another version: each with its command."""
    endpoints, lacking = sandbox.stripe.webhook_endpoints, ["payment_intent.succeeded", "refund.failed"]
    missing = said(found(calltally, "stripe"))
    endpoints.append(
        webhook_endpoint(
            "we_1",
            f"{PUBLIC_URL}/webhooks/stripe",
            [kind for kind in NEEDED if kind not in lacking],
            status="disabled",
            livemode=True,
            api_version="2024-06-20",
        )
    )
    wrong = said(found(calltally, "stripe"))
    endpoints[0] = webhook_endpoint("we_1", f"{PUBLIC_URL}/webhooks/stripe", NEEDED)
    right = found(calltally, "stripe")

    curl = f'curl {sandbox.stripe_api_base}/v1/webhook_endpoints/we_1 -u "$STRIPE_API_KEY:"'
    assert (
        "-d url=https://billing.example.com/webhooks/stripe"
        in missing["no endpoint sends to https://billing.example.com/webhooks/stripe"]
    )
    assert wrong["endpoint we_1 is disabled: payments are not credited"] == f"{curl} -d disabled=false"
    lacking += ["charge.refund.updated", "charge.refunded"]  # of that version, nothing else tells of refunds
    assert wrong[f"endpoint we_1 does not send {', '.join(lacking)}"].count("enabled_events[]=") == len(NEEDED) + 2
    assert "endpoint we_1 is in live mode, and events of that mode are parked here" in wrong
    assert "endpoint we_1 renders events in 2024-06-20; tested is 2026-10-28.endive" in wrong
    assert [finding["verdict"] for finding in right] == ["ok", "ok"]


def test_thin_endpoints_of_stripe_are_found(calltally: Calltally, sandbox: RunningSandbox) -> None:
    """They are in a list of their own; beside a snapshot endpoint one is in vain, alone it has to send everything."""
    url = f"{PUBLIC_URL}/webhooks/stripe"
    elsewhere = event_destination("ed_other", "https://other.example.com/", ["v1.refund.created"])
    sandbox.stripe.event_destinations += [elsewhere, event_destination("ed_1", url, ["v1.payment_intent.succeeded"])]
    alone = said(found(calltally, "stripe"))
    sandbox.stripe.webhook_endpoints.append(webhook_endpoint("we_1", url, NEEDED))
    beside = said(found(calltally, "stripe"))

    missing = ", ".join(f"v1.{kind}" for kind in sorted(NEEDED) if kind != "payment_intent.succeeded")
    assert f"thin endpoint ed_1 does not send {missing}" in alone
    assert "thin endpoint ed_1 sends what changed and not what it is now: everything has to be asked for" in alone
    assert [what for what in beside if "ed_1" in what] == [
        "thin endpoint ed_1 tells us what snapshot endpoints tell as well: every payment is asked about for nothing"
    ]


def test_key_that_may_not_read_what_was_sold_is_found(calltally: Calltally, sandbox: RunningSandbox) -> None:
    """One that reads events and endpoints was enough once."""
    sandbox.stripe.faults.add(Fault(status=403, path_prefix="/v1/checkout/sessions"), 1)

    assert (
        "the key may not read Checkout Sessions: what was sold by a payment, or its tax, cannot be asked for"
    ) in said(found(calltally, "stripe"))


def test_endpoints_of_stripe_are_examined_without_a_public_url_too(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By their path; one that serves somebody else is only listed, with its status."""
    monkeypatch.setenv("PUBLIC_URL", "")
    get_settings.cache_clear()
    sandbox.stripe.webhook_endpoints += [
        webhook_endpoint("we_off", "https://a.example.com/webhooks/stripe", NEEDED, status="disabled"),
        webhook_endpoint("we_lacks", "https://b.example.com/webhooks/stripe/", NEEDED[1:]),
        webhook_endpoint("we_well", "https://c.example.com/webhooks/stripe", NEEDED),
        webhook_endpoint("we_else", "https://d.example.com/shop", [], status="disabled"),
    ]
    _, unset, *findings = (finding for finding in check_stripe(get_settings()) if "clock" not in finding.what)

    assert (
        "https://a.example.com/webhooks/stripe (disabled), https://b.example.com/webhooks/stripe/ (enabled)"
        in unset.what
    )
    assert "https://d.example.com/shop (disabled)" in unset.what
    assert [(finding.verdict, finding.what) for finding in findings] == [
        ("problem", "endpoint we_off is disabled: payments are not credited"),
        ("problem", "endpoint we_lacks does not send checkout.session.completed"),
        ("ok", "endpoint we_well sends all that is needed to https://c.example.com/webhooks/stripe"),
    ]


def test_keys_that_are_refused_are_problems(
    calltally: Calltally, sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The providers answer 401; the fix says where the right key is, and no key is printed."""
    monkeypatch.setenv("VAPI_API_KEY", SECRETS[2])
    monkeypatch.setenv("STRIPE_API_KEY", SECRETS[0])
    get_settings.cache_clear()
    answer = calltally("doctor")

    assert "Vapi refuses VAPI_API_KEY" in answer.output
    assert "Stripe refuses STRIPE_API_KEY" in answer.output
    assert answer.exit_code == 1
    assert not any(secret in answer.output for secret in SECRETS)


def test_everything_that_is_away_is_a_problem_and_no_crash(
    calltally: Calltally, sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Database, Prefect, providers: the doctor says of each that it does not answer, and what to do."""
    nowhere = "http://127.0.0.1:9"
    monkeypatch.setenv("DATABASE_URL", f"postgresql://me:{SECRETS[3]}@127.0.0.1:9/books")
    monkeypatch.setenv("VAPI_BASE_URL", nowhere)
    monkeypatch.setenv("STRIPE_API_BASE", nowhere)
    monkeypatch.setenv("PUBLIC_URL", nowhere)
    get_settings.cache_clear()
    answer = calltally("doctor", "--json")
    problems = {finding["area"] for finding in answer.json["findings"] if finding["verdict"] == "problem"}

    assert problems >= {"database", "prefect", "vapi", "stripe", "receiver"}
    assert all(finding["fix"] for finding in answer.json["findings"] if finding["verdict"] == "problem")
    assert SECRETS[3] not in answer.output


@pytest.mark.usefixtures("own_tables")
def test_database_is_examined(calltally: Calltally, sandbox: RunningSandbox, database_url: str) -> None:
    """Version, schema and roles are well; fsync is off here, and an older schema is noticed."""
    well = found(calltally, "database")
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE schema_revision SET version_num = '0001'")
    behind = said(found(calltally, "database"))
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE schema_revision SET version_num = '9999'")
    ahead = said(found(calltally, "database"))

    assert [finding["what"].split()[0] for finding in well if finding["verdict"] == "ok"] == [
        "PostgreSQL",
        "its",
        "its",
    ]
    assert "fsync is off: a crash loses webhooks that were answered 200" in said(well)
    assert "calltally migrate" in behind.values()
    assert "update calltally" in ahead.values()


WELL = {
    "STRIPE_API_KEY": "rk_test_1",
    "STRIPE_WEBHOOK_SECRETS": "whsec_1",
    "VAPI_API_KEY": "5b1f6f0e-7c1d-4c55-9a3e-0d2f4a6b8c10",
    "VAPI_WEBHOOK_SECRETS": "0123456789abcdef0123456789abcdef",
    "PUBLIC_URL": PUBLIC_URL,
    "OPERATOR_TOKEN": "0123456789abcdef0123456789abcdef",
    "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T0/B0/x",
}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "they have the right shapes"),
        ({"STRIPE_WEBHOOK_SECRETS": ""}, "every webhook of Stripe's is refused"),
        ({"STRIPE_WEBHOOK_SECRETS": "sk_live_very_secret"}, "is an API key"),
        ({"STRIPE_WEBHOOK_SECRETS": "very_secret"}, "does not begin with whsec_"),
        ({"STRIPE_API_KEY": "pk_live_very_secret"}, "publishable key"),
        ({"STRIPE_API_KEY": "very_secret"}, "begins neither with sk_ nor with rk_"),
        ({"STRIPE_LIVEMODE": "true"}, "is of the other mode"),
        ({"VAPI_API_KEY": ""}, "no night can compare the books"),
        ({"VAPI_WEBHOOK_SECRETS": ""}, "every webhook of Vapi's is refused"),
        ({"VAPI_WEBHOOK_SECRETS": "whsec_very_secret"}, "is one of Stripe's"),
        ({"VAPI_WEBHOOK_SECRETS": "very_secret"}, "it can be guessed"),
        ({"VAPI_WEBHOOK_AUTH": "hmac", "VAPI_HMAC_PAYLOAD_FORMAT": "{body}"}, "can send it again"),
        ({"TWILIO_AUTH_TOKEN": "very_secret"}, "TWILIO_ACCOUNT_SID is not set"),
        ({"TWILIO_ACCOUNT_SID": "SK1", "TWILIO_AUTH_TOKEN": "very_secret"}, "is not AC and 32 digits"),
        ({"PUBLIC_URL": ""}, "PUBLIC_URL is not set"),
        ({"PUBLIC_URL": "http://billing.example.com"}, "https only"),
        ({"PUBLIC_URL": "https://billing.example.com/webhooks/vapi"}, "with the path of a webhook"),
        ({"OPERATOR_TOKEN": ""}, "refuses everybody"),
        ({"OPERATOR_TOKEN": "very_secret"}, "OPERATOR_TOKEN has fewer"),
        ({"SLACK_WEBHOOK_URL": ""}, "alerts reach nobody"),
        ({"SLACK_WEBHOOK_URL": "https://slack.com/very_secret"}, "no address of an incoming webhook"),
    ],
)
def test_settings_are_judged_by_their_shape(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changes: dict[str, str], says: str
) -> None:
    """Each mistake is one finding with a fix, and never shows the secret."""
    monkeypatch.chdir(tmp_path)
    for name, setting in {**WELL, **changes}.items():
        monkeypatch.setenv(name, setting)
    get_settings.cache_clear()
    findings = check_settings(get_settings())
    get_settings.cache_clear()

    assert len(findings) == 1
    assert says in findings[0].what
    assert (findings[0].fix is None) == (not changes)
    assert "very_secret" not in str(findings)


def test_readable_env_file_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It holds secrets; chmod mends it."""
    file = tmp_path / ".env"
    file.write_text("")
    file.chmod(0o644)
    for name, setting in WELL.items():
        monkeypatch.setenv(name, setting)
    get_settings.cache_clear()
    findings = check_settings(get_settings(), file)
    get_settings.cache_clear()

    assert [finding.fix for finding in findings] == [f"chmod 600 {file}"]


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("{token}", {"the token is accepted": None}),
        ("very-secret", {"Twilio refuses TWILIO_ACCOUNT_SID with TWILIO_AUTH_TOKEN (401)": "primary auth token"}),
        (
            "{token},{token},very-secret",
            {
                "the token is accepted": None,
                "token 2 is accepted: it is the account's too": None,
                "token 3 of TWILIO_AUTH_TOKEN opens neither the account nor one of 0 subaccount(s)": "keep it if",
            },
        ),
    ],
)
def test_twilios_token_is_tried(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch, token: str, says: dict[str, str | None]
) -> None:
    """Both while it is rotated; and nothing is said of Twilio where nobody uses it."""
    get_settings.cache_clear()
    unused = check_twilio(get_settings())
    for name, setting in sandbox.twilio_environment(PUBLIC_URL).items():
        monkeypatch.setenv(name, setting)
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", token.format(token=sandbox.twilio.auth_token))
    get_settings.cache_clear()
    findings = check_twilio(get_settings())
    get_settings.cache_clear()

    assert unused == []
    assert [finding.what for finding in findings] == list(says)
    for finding in findings:
        assert (says[finding.what] or "") in (finding.fix or "")
    assert "very-secret" not in str(findings)


def test_tokens_of_twilios_subaccounts_are_told_from_old_ones(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by Twilio's list; one that is routed and whose token is not known here loses its callbacks."""
    listed, routed, named, changed = (sandbox.twilio.add_subaccount(f"very-secret-{number}") for number in range(4))
    for name, setting in sandbox.twilio_environment(PUBLIC_URL).items():
        monkeypatch.setenv(name, setting)
    owned = f"{named.account_sid}:{named.auth_token},{changed.account_sid}:very-secret,SK1:very-secret"
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", f"{sandbox.twilio.auth_token},{listed.auth_token},{owned}")
    get_settings.cache_clear()
    says_not = "and does not say so: it is tried for every callback, and speaks for every account"
    is_not = "is not that of this account: its callbacks are refused"
    no_token = "and TWILIO_AUTH_TOKEN holds no token of its own: its callbacks are refused with 401"
    paying = {("twilio_account", account.account_sid): "Acme" for account in (routed, named)}
    findings = check_twilio(get_settings(), paying)

    assert [(finding.verdict, finding.what) for finding in findings] == [
        ("ok", "the token is accepted"),
        ("warning", f"token 2 of TWILIO_AUTH_TOKEN is that of subaccount {listed.account_sid}, {says_not}"),
        ("warning", f"the token of {changed.account_sid} in TWILIO_AUTH_TOKEN {is_not}"),
        (
            "problem",
            f"account {routed.account_sid} has a route, {no_token}",
        ),
    ]
    assert "very-secret" not in str(findings)


def test_query_of_a_callback_is_a_warning(sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twilio signs it as it is written and may call it sorted."""
    for name, setting in sandbox.twilio_environment(PUBLIC_URL).items():
        monkeypatch.setenv(name, setting)
    monkeypatch.setattr(
        sandbox.twilio,
        "messaging_services",
        {"MG1": None, "MG2": f"{PUBLIC_URL}/webhooks/twilio#rc=5", "MG3": f"{PUBLIC_URL}/webhooks/twilio?b=1&a=2"},
    )
    get_settings.cache_clear()
    findings = check_twilio(get_settings())
    get_settings.cache_clear()

    assert [finding.verdict for finding in findings] == ["ok", "warning"]
    assert "Messaging Service MG3 has a query" in findings[1].what


@pytest.mark.parametrize(
    ("url", "verdict", "what"),
    [
        ("", "ok", "/reports takes files"),
        ("memory://nights", "ok", "memory:///nights takes files"),
        ("nowhere://nights", "problem", "REPORTS_URL begins with nowhere://"),
        ("file:///dev/null/nights", "problem", "file:///dev/null/nights takes no files"),
        ("http://127.0.0.1:9/nights", "problem", "takes no files (ClientConnectorError): nights complete"),
    ],
)
def test_place_of_reports_is_tried(tmp_path: Path, url: str, verdict: str, what: str) -> None:
    """A folder, an object store, no known kind of place, a place that takes nothing: before a night finds out."""
    settings = Settings(_env_file=None, calltally_home=tmp_path, reports_url=url or None)
    [finding] = check_reports(settings)

    assert finding.verdict == verdict
    assert what in finding.what
    assert (finding.fix is None) == (verdict == "ok")


def test_drivers_of_object_stores_are_installed_with_us() -> None:
    """The image has them too: its lock file is a part of ours."""
    for scheme in ("s3", "gs"):
        assert fsspec.get_filesystem_class(scheme).protocol
    packages = (ROOT / "deployments" / "requirements.lock").read_text()

    assert "\ns3fs==" in packages
    assert "\ngcsfs==" in packages
