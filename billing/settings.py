"""Settings: one frozen object, read once from the environment or `.env`; the names are a contract."""

from datetime import timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """What the environment says. An empty value counts as absent, so an empty secret never verifies anything."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    database_url: str | None = None
    """`postgresql://…` of a PostgreSQL 15 to 18; absent: the embedded one in `calltally_home`."""
    prefect_api_url: str | None = None
    """`http://…/api` of a Prefect server; absent: `calltally up` starts one."""

    stripe_api_key: SecretStr | None = None
    stripe_api_base: str = "https://api.stripe.com"
    stripe_webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Signing secrets of the endpoint; two while rotating."""

    vapi_api_key: SecretStr | None = None
    """The private key of the reseller's Vapi organisation."""
    vapi_base_url: str = "https://api.vapi.ai"
    vapi_webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    vapi_webhook_auth: Literal["bearer", "secret", "hmac"] = "bearer"
    """How Vapi proves itself: `Authorization: Bearer`, `X-Vapi-Secret`, or an HMAC of time and body."""

    twilio_account_sid: str | None = None
    twilio_auth_token: SecretStr | None = None
    twilio_base_url: str = "https://api.twilio.com"

    public_url: str | None = None
    """Where the providers reach the receiver, for example `https://billing.example.com`."""
    slack_webhook_url: SecretStr | None = None
    operator_token: SecretStr | None = None
    """Bearer token of the operators' HTTP API; absent: that API refuses everybody."""

    receiver_host: str = "127.0.0.1"
    receiver_port: Annotated[int, Field(ge=1, le=65535)] = 3001
    calltally_home: Path = Path(".calltally")
    """Where the embedded database, logs and reports live."""

    webhook_max_bytes: Annotated[int, Field(ge=1024)] = 1_000_000
    """A larger body of Stripe's is refused with 413."""
    vapi_webhook_max_bytes: Annotated[int, Field(ge=1024)] = 8_000_000
    """The same for Vapi, whose reports hold the transcript of the call twice: an hour is more than 1 MB."""
    health_max_waiting: timedelta = timedelta(minutes=5)
    """`/health` turns 503 when an event has waited longer than this."""
    reliability_threshold: Annotated[Decimal, Field(ge=0, le=1)] = Decimal("0.95")
    """Below this share of calls reported by webhook, Slack is alerted."""

    @field_validator("stripe_webhook_secrets", "vapi_webhook_secrets", mode="before")
    @classmethod
    def _split_secrets(cls, value: object) -> object:
        """Read `new,old` as two secrets; drop empty ones, since an empty secret verifies anything."""
        if isinstance(value, str):
            return tuple(SecretStr(part.strip()) for part in value.split(",") if part.strip())
        return value


@cache
def get_settings() -> Settings:
    """The settings of this process."""
    return Settings()
