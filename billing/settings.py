"""Settings: one frozen object, read once from the environment or `.env`; the names are a contract."""

import logging
import os
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from io import StringIO
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from dotenv.parser import Binding, parse_stream
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from billing.errors import PermanentError
from billing.quiet_hours import QuietHours
from billing.setting_names import near_misses
from billing.signatures import HmacPlan
from billing.twilio_signature import TwilioSecrets

log = logging.getLogger("billing.settings")

DATABASE_ADDRESS = re.compile(r"postgres(ql)?(\+\w+)?://([^/?#\s]*)(/[^/?#\s]*)?(\?[^#\s]*)?")
WEB_ADDRESS = re.compile(r"https?://[^/?#@\s]+(/[^?#\s]*)?")


class Settings(BaseSettings):
    """What the environment says. An empty value counts as absent, so an empty secret never verifies anything."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,  # a complaint about one value must not print the secrets beside it
    )

    database_url: str | None = None
    """`postgresql://…` of a PostgreSQL 15 to 18; absent: the embedded one in `calltally_home`."""
    prefect_api_url: str | None = None
    """`http://…/api` of a Prefect server; absent: `calltally up` starts one."""
    prefect_api_auth_string: SecretStr | None = None
    """`user:password` of Prefect's server; absent: the one that a server on this machine has made and kept
    (`calltally prefect-login`). Prefect's own client reads it as well."""
    prefect_api_key: SecretStr | None = None
    """The same for Prefect Cloud."""
    prefect_ui_url: str | None = None
    """Where people open Prefect's pages, for links in alerts; absent: `prefect_api_url` without `/api`."""

    stripe_api_key: SecretStr | None = None
    stripe_api_base: str = "https://api.stripe.com"
    stripe_webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Signing secrets of the endpoint; two while rotating."""
    stripe_livemode: bool | None = None
    """Whether this is the live endpoint; events of the other mode are parked. Absent: as `stripe_api_key` says."""

    stripe_tax_percent: Annotated[Decimal, Field(ge=0, le=100)] = Decimal(0)
    """Tax within payments of which Stripe can tell none, since no Checkout Session or invoice stands behind them,
    in percent of the price before tax: 19 credits 100 of 119."""
    stripe_credit_linked_customers: bool = False
    """Whether a payment that names no organization is credited to the one that its customer is linked with, once
    Stripe says that it is neither of an invoice nor of a subscription. Otherwise it is parked."""
    stripe_trust_client_reference: bool = False
    """Whether `client_reference_id` is believed where the payer may have written it: on payment links, and from
    guests who name an organization with a linked customer. Otherwise such payments are parked."""

    vapi_api_key: SecretStr | None = None
    """The private key of the reseller's Vapi organisation."""
    vapi_base_url: str = "https://api.vapi.ai"
    vapi_requests_per_second: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 20
    """Of its list, by one run; 0 for no limit. Vapi publishes none, and a 429 slows us down in any case."""
    vapi_webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    vapi_webhook_auth: Literal["bearer", "secret", "hmac"] = "bearer"
    """How Vapi proves itself: `Authorization: Bearer`, `X-Vapi-Secret`, or an HMAC of time and body."""
    vapi_hmac_algorithm: Literal["sha256", "sha512", "sha1"] = "sha256"
    """This and the next ones are the HMAC plan of Vapi's credential, with Vapi's own defaults."""
    vapi_hmac_signature_header: str = "x-signature"
    vapi_hmac_signature_encoding: Literal["hex", "base64"] = "hex"
    vapi_hmac_signature_prefix: str = ""
    """In front of the signature, for example `sha256=`."""
    vapi_hmac_payload_format: str = "{timestamp}.{body}"
    """What is signed; without `{timestamp}` an old delivery can be sent again by whoever saw it."""
    vapi_hmac_timestamp_header: str = "x-timestamp"
    vapi_hmac_timestamp_unit: Literal["any", "seconds", "milliseconds"] = "any"
    """`any` tells the two apart by their length."""
    vapi_hmac_secret_is_base64: bool = False

    twilio_account_sid: str | None = None
    twilio_auth_token: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """With commas: the account's (two while rotating), then `AC…:token` of each subaccount, which signs with its own,
    and `ID:secret` of each shared key that a webhook rule signs with. We ask with the first."""
    twilio_base_url: str = "https://api.twilio.com"

    public_url: str | None = None
    """Where the providers reach the receiver, for example `https://billing.example.com`; Twilio signs it."""
    slack_webhook_url: SecretStr | None = None
    operator_token: SecretStr | None = None
    """Bearer token of the operators' HTTP API; absent: that API refuses everybody."""

    receiver_host: str = "127.0.0.1"
    receiver_port: Annotated[int, Field(ge=1, le=65535)] = 3001
    trusted_proxies: str = "127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,fc00::/7"
    """Networks of proxies, which stand for many senders; any other address may have 256 connections at once."""
    calltally_home: Path = Path(".calltally")
    """Where the embedded database, logs and reports live."""
    reports_url: str | None = None
    """Where each night's files go: a folder, `s3://bucket/path`, `gs://…`; absent: `reports/` in `calltally_home`."""

    webhook_max_bytes: Annotated[int, Field(ge=1024)] = 1_000_000
    """A larger body of Stripe's is refused with 413."""
    vapi_webhook_max_bytes: Annotated[int, Field(ge=1024)] = 8_000_000
    """The same for Vapi, whose reports hold the transcript of the call twice: an hour is more than 1 MB."""
    webhook_read_timeout: timedelta = timedelta(seconds=20)
    """A sender that takes longer to send its body is answered 408."""
    health_max_waiting: timedelta = timedelta(minutes=5)
    """`/health` turns 503 when an event has waited longer than this."""
    reliability_threshold: Annotated[Decimal, Field(ge=0, le=1)] = Decimal("0.95")
    """Below this share of calls reported by webhook, Slack is alerted."""
    reliability_min_calls: Annotated[int, Field(ge=1)] = 1
    """Nights of fewer ended calls neither raise that alarm nor end it."""
    quiet_hours: str | None = None
    """`22:00-06:00`: only critical messages go out then, the others wait; absent: none."""
    quiet_hours_timezone: str = "UTC"
    """By the clocks of which place, for example `Europe/Berlin`."""
    runbook_url: str | None = None
    """Where `docs/runbook.md` can be read; messages link its sections. Absent: they name them."""
    weekly_summary: bool = True
    """Whether Slack is told every Monday at 08:00 UTC how the week was."""
    daily_heartbeat: bool = True
    """Whether Slack, if it is set up, gets a line every day at 08:00 UTC, so that a channel that broke is noticed."""
    outstanding_limit: Annotated[Decimal, Field(ge=0)] = Decimal(50)
    """Slack is told once organizations owe more than this together, in units of a currency."""
    vapi_retention_days: Annotated[int, Field(ge=1)] = 14
    """How long Vapi keeps calls: 14 days on pay-as-you-go. An older call that it does not list proves nothing."""
    drift_tolerance_ms: Annotated[int, Field(ge=0)] = 0
    """Durations may differ so much and still agree: both sides reckon them from the same two times."""
    drift_tolerance_micros: Annotated[int, Field(ge=0)] = 100
    """The same for Vapi's costs, whose last decimal is 100 micros and may be rounded either way."""
    completeness_tolerance: Annotated[Decimal, Field(ge=0, le=1)] = Decimal("0.01")
    """How far the list and Vapi's own totals may be apart, as a share of calls and of cost."""
    completeness_tolerance_calls: Annotated[int, Field(ge=0)] = 5
    """The same in calls, for quiet days: totals may count a call by another of its times than the list."""
    completeness_stops_billing: bool = True
    """Whether calls of a day whose list and totals disagree wait for a night in which they agree."""
    dask_scheduler: str | None = None
    """Where nights list and compare: `tcp://…` of a Dask scheduler, or `local` for a process per core; absent: in
    their own process, which is enough for a million calls."""
    worker_max_runs: Annotated[int, Field(ge=1, le=100)] = 8
    """Flow runs of a worker at once; most of them wait in a retry."""
    worker_batch_limit: Annotated[int, Field(ge=1, le=10_000)] = 2000
    """Events in one run at most, half a second of work; batches grow with what waits, and so does memory, up to 32 MB
    of bodies."""

    metrics_token: SecretStr | None = None
    """Bearer token of everybody's `/metrics`; absent: answered to programs on this machine alone, and to nobody if
    there is a `public_url` or any sign of a proxy."""
    worker_metrics_host: str = "127.0.0.1"
    worker_metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Where a worker answers `/metrics`; absent: nowhere."""
    sentry_dsn: SecretStr | None = None
    """Where errors are reported to, without bodies, numbers or secrets; absent: nowhere. Needs the extra `sentry`."""
    otel_exporter_otlp_endpoint: str | None = None
    """Where traces go by OTLP over HTTP; absent: nowhere. Needs the extra `telemetry`."""

    @field_validator("stripe_webhook_secrets", "vapi_webhook_secrets", "twilio_auth_token", mode="before")
    @classmethod
    def _split_secrets(cls, value: object) -> object:
        """Read `new,old` as two secrets; drop empty ones, since an empty secret verifies anything."""
        if isinstance(value, str):
            return tuple(SecretStr(part.strip()) for part in value.split(",") if part.strip())
        return value

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, url: str | None) -> str | None:
        """Find an address that no driver reads; what drivers say of it may quote its password."""
        if url is not None and not _is_address(url, DATABASE_ADDRESS):
            raise ValueError(
                "it must look like postgresql://USER:PASSWORD@HOST:5432/DATABASE; in user and password, write"
                " / @ : # % as %2F %40 %3A %23 %25"
            )
        return url

    @field_validator(
        *("prefect_api_url", "prefect_ui_url", "public_url", "stripe_api_base", "vapi_base_url", "twilio_base_url"),
        *("runbook_url", "otel_exporter_otlp_endpoint"),
    )
    @classmethod
    def _check_web_address(cls, url: str | None) -> str | None:
        """Find an address that could never answer or match when the program starts, not when it is needed."""
        if url is not None and not _is_address(url, WEB_ADDRESS):
            raise ValueError(
                "it must look like https://billing.example.com or http://127.0.0.1:4200/api, without ? and #"
            )
        return url

    @field_validator("receiver_host", "worker_metrics_host")
    @classmethod
    def _check_host(cls, host: str) -> str:
        """A name or an address without its port; an IPv6 one may stand in brackets."""
        host = host.removeprefix("[").removesuffix("]")
        if re.fullmatch(r"[\w.-]+|[\da-fA-F:.]+(%\w+)?", host) is None:
            raise ValueError(
                "it must be an address of this machine, as 127.0.0.1, 0.0.0.0 or ::1 are, without a port"
            )
        return host

    @field_validator("trusted_proxies")
    @classmethod
    def _check_trusted_proxies(cls, networks: str) -> str:
        """Find what is no network when the program starts."""
        for part in filter(None, (part.strip() for part in networks.split(","))):
            try:
                ip_network(part)
            except ValueError as error:
                raise ValueError(f"it must look like 10.0.0.0/8,203.0.113.7, and {error}") from None
        return networks

    @model_validator(mode="after")
    def _check_hmac(self) -> Self:
        """Find a plan or a secret that could never match when the program starts, not at the first webhook."""
        plan = self.vapi_hmac_plan
        if self.vapi_webhook_auth == "hmac":
            for secret in self.vapi_webhook_secrets:
                plan.key(secret.get_secret_value())
        return self

    @model_validator(mode="after")
    def _check_twilio_secrets(self) -> Self:
        """Find tokens that nobody could tell apart when the program starts."""
        _ = self.twilio_secrets
        return self

    @model_validator(mode="after")
    def _check_quiet_hours(self) -> Self:
        """Find hours that cannot be read when the program starts, not at the first alert."""
        self.quiet_until(datetime.now(UTC))
        return self

    def quiet_until(self, now: datetime) -> datetime | None:
        """When the quiet hours end, if they are now."""
        if self.quiet_hours is None:
            return None
        return QuietHours.read(self.quiet_hours, self.quiet_hours_timezone).until(now)

    @property
    def prefect_pages_url(self) -> str | None:
        """Where people open Prefect's pages, without a slash at the end."""
        pages = self.prefect_ui_url or (self.prefect_api_url or "").removesuffix("/api")
        return pages.rstrip("/") or None

    @property
    def vapi_retention(self) -> timedelta:
        """How long Vapi keeps calls."""
        return timedelta(days=self.vapi_retention_days)

    @property
    def vapi_hmac_plan(self) -> HmacPlan:
        """How Vapi signs, as its credential is set up."""
        return HmacPlan(
            algorithm=self.vapi_hmac_algorithm,
            signature_header=self.vapi_hmac_signature_header,
            encoding=self.vapi_hmac_signature_encoding,
            prefix=self.vapi_hmac_signature_prefix,
            payload_format=self.vapi_hmac_payload_format,
            timestamp_header=self.vapi_hmac_timestamp_header,
            timestamp_unit=self.vapi_hmac_timestamp_unit,
            secret_is_base64=self.vapi_hmac_secret_is_base64,
        )

    @property
    def trusted_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Of proxies."""
        return tuple(ip_network(part.strip()) for part in self.trusted_proxies.split(",") if part.strip())

    @property
    def twilio_secrets(self) -> TwilioSecrets:
        """What Twilio signs with."""
        return TwilioSecrets.read(secret.get_secret_value() for secret in self.twilio_auth_token)

    @property
    def stripe_expects_livemode(self) -> bool | None:
        """Which of Stripe's modes counts here; None: both, since neither the setting nor the key says."""
        if self.stripe_livemode is not None or self.stripe_api_key is None:
            return self.stripe_livemode
        key = self.stripe_api_key.get_secret_value()
        return True if "_live_" in key else False if "_test_" in key else None


def _is_address(url: str, form: re.Pattern[str]) -> bool:
    """Whether it has the form, and a port, if any, that there can be."""
    if form.fullmatch(url) is None:
        return False
    try:
        _ = urlsplit(url).port
    except ValueError:
        return False
    return True


ENV_FILE_VARIABLE = "CALLTALLY_ENV_FILE"
"""Where `.env` is, for processes that work elsewhere: Prefect runs each night in a folder of its own."""


class UnreadableSettings(PermanentError):
    """The settings' file cannot be read."""


@cache
def get_settings() -> Settings:
    """The settings of this process. Names that are almost ours are told to the log, once.

    Raises:
        UnreadableSettings: the file is there, and no text or not for this user; the message says what to do.
        pydantic.ValidationError: a value makes no sense.
    """
    file = Path(os.environ.get(ENV_FILE_VARIABLE, ".env"))
    misspelt_names = misspelt(file)  # first, since it says what is wrong with the file
    settings = Settings(_env_file=file)
    for name, meant in misspelt_names.items():
        log.warning("%s is no setting, and %s is not set: is that what was meant? Then rename it", name, meant)
    return settings


def misspelt(file: Path) -> dict[str, str]:
    """Variables of the environment and the file whose names are almost those of settings, and these settings."""
    known = [*(name.upper() for name in Settings.model_fields), ENV_FILE_VARIABLE]
    given = {name.upper() for name, content in {**_read(file), **os.environ}.items() if content}
    return near_misses(given, known, given)


def _number(line: Binding) -> str:
    """Of the line itself: the parser counts from the blank lines before it."""
    text = line.original.string
    return str(line.original.line + text[: len(text) - len(text.lstrip())].count("\n"))


def _read(file: Path) -> dict[str, str | None]:
    """The names and values of the settings' file; none if there is no file."""
    if not file.is_file():
        return {}
    try:
        lines = list(parse_stream(StringIO(file.read_text(encoding="utf-8"))))
    except (OSError, UnicodeDecodeError) as error:
        why = "is no text in UTF-8" if isinstance(error, UnicodeDecodeError) else f"cannot be read: {error.strerror}"
        raise UnreadableSettings(
            f"the settings' file {file} {why}. Mend or remove it, or name another one with {ENV_FILE_VARIABLE}"
        ) from error
    wrong = [_number(line) for line in lines if line.error or (line.key is not None and line.value is None)]
    if wrong:
        raise UnreadableSettings(
            f"the settings' file {file} has lines that set nothing ({', '.join(wrong)}): write each as NAME=value,"
            " with quotes around a value that holds # or spaces, or put # before it"
        )
    return {line.key: line.value for line in lines if line.key is not None}
