"""Serving the sandbox on one local port: `/vapi`, `/stripe`, `/slack`, `/twilio` and `/control`."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from calltally.sandbox.control import control_app
from calltally.sandbox.serving import LOOPBACK, running_app, server_config
from calltally.sandbox.slack import WEBHOOK_PATH, SlackWorld, slack_app
from calltally.sandbox.stripe import StripeWorld
from calltally.sandbox.stripe_http import stripe_app
from calltally.sandbox.twilio import TwilioWorld
from calltally.sandbox.twilio_http import twilio_app
from calltally.sandbox.vapi import VapiWorld
from calltally.sandbox.vapi_http import vapi_app
from calltally.sandbox.world import Sandbox

DEFAULT_PORT = 3010


@dataclass(frozen=True, slots=True)
class RunningSandbox:
    """A served sandbox and the addresses of its providers."""

    sandbox: Sandbox
    port: int

    @property
    def base_url(self) -> str:
        """Root of all routes, without a slash at the end."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def vapi_base_url(self) -> str:
        """Put in place of `https://api.vapi.ai`."""
        return f"{self.base_url}/vapi"

    @property
    def stripe_api_base(self) -> str:
        """Put in place of `https://api.stripe.com`."""
        return f"{self.base_url}/stripe"

    @property
    def slack_webhook_url(self) -> str:
        """The incoming webhook."""
        return f"{self.base_url}/slack{WEBHOOK_PATH}"

    @property
    def vapi(self) -> VapiWorld:
        """The calls."""
        return self.sandbox.vapi

    @property
    def stripe(self) -> StripeWorld:
        """The payments."""
        return self.sandbox.stripe

    @property
    def twilio(self) -> TwilioWorld:
        """The text messages sent."""
        return self.sandbox.twilio

    @property
    def slack(self) -> SlackWorld:
        """The messages posted."""
        return self.sandbox.slack

    def twilio_environment(self, public_url: str) -> dict[str, str]:
        """Return the settings for messages; `public_url` is where callbacks are sent and signed for."""
        return {
            "TWILIO_BASE_URL": f"{self.base_url}/twilio",
            "TWILIO_ACCOUNT_SID": self.twilio.account_sid,
            "TWILIO_AUTH_TOKEN": self.twilio.auth_token,
            "PUBLIC_URL": public_url,
        }

    def environment(self) -> dict[str, str]:
        """Return the settings that point calltally at this sandbox."""
        return {
            "VAPI_BASE_URL": self.vapi_base_url,
            "VAPI_API_KEY": self.vapi.api_key,
            "VAPI_WEBHOOK_AUTH": self.sandbox.vapi_signer.kind,
            "VAPI_WEBHOOK_SECRETS": self.sandbox.vapi_signer.secret,
            "STRIPE_API_BASE": self.stripe_api_base,
            "STRIPE_API_KEY": self.stripe.api_key,
            "STRIPE_WEBHOOK_SECRETS": ",".join(self.sandbox.stripe_secrets),
            "SLACK_WEBHOOK_URL": self.slack_webhook_url,
        }


def sandbox_app(sandbox: Sandbox) -> Starlette:
    """Return all providers and the control routes as one ASGI application."""
    return Starlette(
        routes=[
            Mount("/vapi", vapi_app(sandbox.vapi, sandbox.clock)),
            Mount("/stripe", stripe_app(sandbox.stripe)),
            Mount("/slack", slack_app(sandbox.slack)),
            Mount("/twilio", twilio_app(sandbox.twilio)),
            Mount("/control", control_app(sandbox)),
        ]
    )


@contextmanager
def running_sandbox(
    sandbox: Sandbox | None = None, *, port: int = 0, access_log: bool = False
) -> Iterator[RunningSandbox]:
    """Serve in a background thread until the block ends; port 0 takes a free one."""
    served = sandbox or Sandbox()
    with running_app(sandbox_app(served), port=port, access_log=access_log) as bound_port:
        yield RunningSandbox(served, bound_port)


def serve(
    host: str = LOOPBACK,
    port: int = DEFAULT_PORT,
    *,
    vapi_target: str | None = None,
    stripe_target: str | None = None,
    seed: int | None = None,
    access_log: bool = False,
) -> None:
    """Serve in the foreground until interrupted.

    The sandbox answers anybody who reaches it and has well-known keys, so only loopback addresses are
    accepted. The targets are the webhook URLs of the receiver. Without a seed each start invents other ids:
    repeated ones would look like duplicates to books that outlive the sandbox.
    """
    if not ipaddress.ip_address(host).is_loopback:
        raise ValueError(f"the sandbox listens on loopback addresses only, not on {host}")
    chosen_seed = secrets.randbits(32) if seed is None else seed
    sandbox = Sandbox(seed=chosen_seed, vapi_target=vapi_target, stripe_target=stripe_target)
    config = server_config(sandbox_app(sandbox), access_log=access_log)
    config.host, config.port = host, port
    uvicorn.Server(config).run()
