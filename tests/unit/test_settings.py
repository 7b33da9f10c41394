"""Settings: what the environment may say, and what `.env.example` says that it may."""

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from billing.settings import Settings
from billing.signatures import HmacPlan

EXAMPLE = Path(__file__).parents[2] / ".env.example"
CONTRACT = [
    *("DATABASE_URL", "PREFECT_API_URL", "STRIPE_API_KEY", "STRIPE_API_BASE", "STRIPE_WEBHOOK_SECRETS"),
    *("VAPI_API_KEY", "VAPI_BASE_URL", "VAPI_WEBHOOK_SECRETS", "VAPI_WEBHOOK_AUTH"),
    *("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_BASE_URL", "PUBLIC_URL", "SLACK_WEBHOOK_URL"),
    *("OPERATOR_TOKEN", "RECEIVER_HOST", "RECEIVER_PORT", "CALLTALLY_HOME"),
]

Load = Callable[..., Settings]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Load:
    """Settings from these variables alone."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)

    def with_variables(**variables: str) -> Settings:
        for name, content in variables.items():
            monkeypatch.setenv(name, content)
        return Settings()

    return with_variables


def secrets(settings: Settings, field: str) -> list[str]:
    """The plain secrets of a field."""
    return [secret.get_secret_value() for secret in getattr(settings, field)]


def test_example_lists_every_setting_in_order_with_one_line_about_it() -> None:
    """A setting that is added is added there."""
    lines = [line for line in EXAMPLE.read_text().splitlines() if line]
    comments, names = lines[::2], [line.partition("=")[0] for line in lines[1::2]]

    assert names == [name.upper() for name in Settings.model_fields]
    assert all(re.fullmatch(r"# [A-Z`].+", comment) for comment in comments)


def test_example_holds_the_defaults(load: Load, tmp_path: Path) -> None:
    """Copied as it is, it changes nothing."""
    (tmp_path / ".env").write_text(EXAMPLE.read_text())

    assert load() == Settings(_env_file=None)


def test_names_of_the_contract_are_all_settings() -> None:
    """Other people's scripts set them."""
    assert {name.lower() for name in CONTRACT} <= set(Settings.model_fields)


def test_defaults_serve_a_laptop(load: Load) -> None:
    """Loopback, the embedded database, and nobody let in."""
    settings = load()

    assert (settings.database_url, settings.receiver_host, settings.receiver_port) == (None, "127.0.0.1", 3001)
    assert (settings.stripe_webhook_secrets, settings.vapi_webhook_secrets, settings.operator_token) == ((), (), None)
    assert (settings.calltally_home, settings.vapi_webhook_auth) == (Path(".calltally"), "bearer")
    assert (settings.reliability_threshold, settings.health_max_waiting) == (Decimal("0.95"), timedelta(minutes=5))


@pytest.mark.parametrize("field", ["stripe_webhook_secrets", "vapi_webhook_secrets", "twilio_auth_token"])
@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("one", ["one"]),
        ("new,old", ["new", "old"]),
        (" new , old ", ["new", "old"]),
        ("new,,old,", ["new", "old"]),
        ("", []),
        (" ", []),
        (",", []),
        (" , ,", []),
    ],
)
def test_secrets_are_split_and_empty_ones_dropped(load: Load, field: str, written: str, read: list[str]) -> None:
    """An empty secret verifies anything."""
    assert secrets(load(**{field.upper(): written}), field) == read


def test_empty_variable_counts_as_absent(load: Load) -> None:
    """As compose files and shells write what is not set."""
    settings = load(**{name.upper(): "" for name in Settings.model_fields})

    assert settings == Settings(_env_file=None)
    assert settings.operator_token is None


def test_variable_that_is_not_ours_is_left_alone(load: Load) -> None:
    """The environment belongs to others as well."""
    load(DATABASE_URLS="x", VAPI_SOMETHING="y")


def test_settings_cannot_be_changed(load: Load) -> None:
    """What was read at the start holds."""
    settings: Any = load()

    with pytest.raises(ValidationError, match="frozen"):
        settings.receiver_port = 1


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("RECEIVER_PORT", "0"),
        ("RECEIVER_PORT", "65536"),
        ("RECEIVER_PORT", "http"),
        ("VAPI_WEBHOOK_AUTH", "none"),
        ("VAPI_HMAC_ALGORITHM", "md5"),
        ("VAPI_HMAC_SIGNATURE_ENCODING", "base32"),
        ("VAPI_HMAC_TIMESTAMP_UNIT", "minutes"),
        ("VAPI_HMAC_PAYLOAD_FORMAT", "{timestamp}"),
        ("VAPI_HMAC_PAYLOAD_FORMAT", "{url}.{body}"),
        ("STRIPE_LIVEMODE", "perhaps"),
        ("WEBHOOK_MAX_BYTES", "10"),
        ("RELIABILITY_THRESHOLD", "1.5"),
        ("HEALTH_MAX_WAITING", "soon"),
    ],
)
def test_value_that_makes_no_sense_stops_the_program(load: Load, name: str, written: str) -> None:
    """At the start, not at the first webhook."""
    with pytest.raises(ValidationError):
        load(**{name: written})


def test_secret_that_is_not_base64_stops_the_program_without_being_printed(load: Load) -> None:
    """Nor is any secret beside it."""
    with pytest.raises(ValidationError) as caught:
        load(
            VAPI_WEBHOOK_AUTH="hmac",
            VAPI_HMAC_SECRET_IS_BASE64="true",
            VAPI_WEBHOOK_SECRETS="hush-hush!",
            STRIPE_WEBHOOK_SECRETS="whsec_hush",
        )

    assert "hush" not in f"{caught.value} {caught.value!r}"


def test_secrets_are_not_shown(load: Load) -> None:
    """Neither in logs nor in tracebacks."""
    settings = load(
        STRIPE_WEBHOOK_SECRETS="hush-1",
        VAPI_WEBHOOK_SECRETS="hush-2,hush-3",
        STRIPE_API_KEY="hush-4",
        VAPI_API_KEY="hush-5",
        TWILIO_AUTH_TOKEN="hush-6",
        SLACK_WEBHOOK_URL="hush-7",
        OPERATOR_TOKEN="hush-8",
    )

    assert "hush" not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"


def test_hmac_plan_is_vapis_own_unless_told_otherwise(load: Load) -> None:
    """The defaults of their credential."""
    assert load().vapi_hmac_plan == HmacPlan()


def test_hmac_plan_is_read_from_its_variables(load: Load) -> None:
    """Each part of a credential has one."""
    settings = load(
        VAPI_HMAC_ALGORITHM="sha512",
        VAPI_HMAC_SIGNATURE_HEADER="x-vapi-signature",
        VAPI_HMAC_SIGNATURE_ENCODING="base64",
        VAPI_HMAC_SIGNATURE_PREFIX="sha512=",
        VAPI_HMAC_PAYLOAD_FORMAT="v0:{timestamp}:{body}",
        VAPI_HMAC_TIMESTAMP_HEADER="x-sent-at",
        VAPI_HMAC_TIMESTAMP_UNIT="milliseconds",
        VAPI_HMAC_SECRET_IS_BASE64="true",
    )

    assert settings.vapi_hmac_plan == HmacPlan(
        "sha512", "x-vapi-signature", "base64", "sha512=", "v0:{timestamp}:{body}", "x-sent-at", "milliseconds", True
    )


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"STRIPE_LIVEMODE": "true"}, True),
        ({"STRIPE_LIVEMODE": "false"}, False),
        ({"STRIPE_API_KEY": "sk_live_x"}, True),
        ({"STRIPE_API_KEY": "rk_live_x"}, True),
        ({"STRIPE_API_KEY": "sk_test_x"}, False),
        ({"STRIPE_API_KEY": "something else"}, None),
        ({"STRIPE_API_KEY": "sk_live_x", "STRIPE_LIVEMODE": "false"}, False),
    ],
)
def test_mode_of_stripe_is_the_settings_or_else_the_keys(
    load: Load, variables: dict[str, str], expected: bool | None
) -> None:
    """Whoever has a live key takes no test money by accident."""
    assert load(**variables).stripe_expects_livemode is expected
