"""Names that are almost settings are found; those of others are left alone."""

import logging
from pathlib import Path

import pytest

from billing.setting_names import near_misses
from billing.settings import ENV_FILE_VARIABLE, Settings, get_settings

KNOWN = [name.upper() for name in Settings.model_fields]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("VAPI_API_KY", "VAPI_API_KEY"),
        ("VAPI_APIKEY", "VAPI_API_KEY"),
        ("VAPI_WEBHOOK_SECRET", "VAPI_WEBHOOK_SECRETS"),
        ("STRIPE_WEBHOOK_SECRET", "STRIPE_WEBHOOK_SECRETS"),
        ("TWILIO_AUTH_TOKENS", "TWILIO_AUTH_TOKEN"),
        ("SLACK_WEBHOOK", "SLACK_WEBHOOK_URL"),
        ("DATABSE_URL", "DATABASE_URL"),
        ("database_ulr", "DATABASE_URL"),
        ("PUBLIC_URLS", "PUBLIC_URL"),
        ("PREFECT_API_ULR", "PREFECT_API_URL"),
        ("CALLTALY_HOME", "CALLTALLY_HOME"),
        ("OPERATER_TOKEN", "OPERATOR_TOKEN"),
    ],
)
def test_misspelt_name_is_found_with_what_was_meant(name: str, meant: str) -> None:
    """One letter too few, too many, or another."""
    assert near_misses([name, "PATH"], KNOWN, {name.upper(), "PATH"}) == {name.upper(): meant}
    assert near_misses([name], KNOWN, {name.upper(), meant}) == {}


def test_names_of_others_are_left_alone() -> None:
    """What machines, containers and neighbours have in their environments."""
    others = [
        *(
            "PATH",
            "HOME",
            "LANG",
            "PWD",
            "HOSTNAME",
            "PYTHONPATH",
            "VIRTUAL_ENV",
            "LOG_LEVEL",
            "PORT",
            "HOST",
            "DEBUG",
        ),
        *("TEST_DATABASE_URL", "POSTGRES_URL", "REDIS_URL", "PGHOST", "PGPASSWORD", "SECRET_KEY", "API_KEY"),
        *(
            "STRIPE_SECRET_KEY",
            "STRIPE_PUBLISHABLE_KEY",
            "STRIPE_API_VERSION",
            "SLACK_BOT_TOKEN",
            "SLACK_SIGNING_SECRET",
        ),
        *("TWILIO_API_KEY", "TWILIO_API_SECRET", "PREFECT_UI_API_URL", "PREFECT_SERVER_API_HOST", "PREFECT_HOME"),
        *("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_LOGGING_LEVEL"),
        *("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SERVICE_NAME", "SENTRY_ENVIRONMENT", "AWS_ACCESS_KEY_ID"),
        *("KUBERNETES_SERVICE_HOST", "KUBERNETES_PORT", "GITHUB_TOKEN", "HTTP_PROXY", "NO_PROXY", *KNOWN),
    ]

    assert near_misses(others, KNOWN, others[:-1]) == {}
    assert near_misses(others, KNOWN, ()) == {}


def test_misspelt_name_of_environment_and_file_is_told_once_without_its_value(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And the settings are read all the same."""
    monkeypatch.chdir(tmp_path)
    for name in ("VAPI_API_KEY", "STRIPE_WEBHOOK_SECRETS", ENV_FILE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VAPI_API_KY", "hush")
    (tmp_path / ".env").write_text("STRIPE_WEBHOOK_SECRET=hush\nRECEIVER_PORT=3002\n")
    get_settings.cache_clear()
    with caplog.at_level(logging.WARNING, "billing.settings"):
        ports = {get_settings().receiver_port, get_settings().receiver_port}
    get_settings.cache_clear()

    told = [record.getMessage() for record in caplog.records if record.name == "billing.settings"]
    assert [line.partition(" ")[0] for line in told] == ["STRIPE_WEBHOOK_SECRET", "VAPI_API_KY"]
    assert "hush" not in "".join(told)
    assert ports == {3002}
