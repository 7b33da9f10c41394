"""Each secret reaches the processes that need it and no other, in every way to deploy; each has its own login."""

import json
from typing import Any

import pytest

from billing.process import PROCESS_VARIABLE, PROCESSES
from billing.settings import Settings
from calltally.stack.environment import LOGINS, SECRETS

from .places import DEPLOYMENTS, read_env_file
from .test_compose import FILLED, compose
from .test_kubernetes import PODS
from .test_kubernetes import SECRETS as OBJECTS
from .test_nights_as_jobs import TEMPLATE
from .test_systemd import FOLDER as UNITS
from .test_systemd import read_unit

OF_THE_INSTALLATION = {"DATABASE_URL", "PREFECT_API_AUTH_STRING", "PREFECT_API_KEY"}
"""Those that are not the same for every service, or are set elsewhere."""
OF_PROVIDERS = SECRETS.keys() - OF_THE_INSTALLATION
FULL = {name.upper(): "secret" for name in Settings.model_fields}
"""What somebody writes into the file of settings: everything."""


def compose_environment(service: str) -> dict[str, str]:
    """What a container gets: the file, overruled by the service; empty values are absent."""
    given = {**FULL, **compose(FILLED)["services"][service].get("environment", {})}
    return {name: content for name, content in given.items() if content}


def systemd_environment(service: str) -> dict[str, str]:
    """What a service gets: its files in their order, without what it unsets at the end."""
    unit = read_unit(UNITS / f"calltally-{service}.service")["Service"]
    given = dict(FULL)
    for place in unit["EnvironmentFile"]:
        name = place.removeprefix("-").rsplit("/", 1)[1]
        given |= {key: content for key, content in read_env_file(UNITS / f"{name}.example").items() if content}
    for name in " ".join(unit.get("UnsetEnvironment", [])).split():
        given.pop(name, None)
    return given


def of_sources(sources: list[dict[str, Any]]) -> dict[str, str]:
    """The keys of the secrets that a container of Kubernetes refers to."""
    named = {source["secretRef"]["name"] for source in sources if "secretRef" in source}
    objects = [each for each in OBJECTS if each["metadata"]["name"] in named]
    assert len(objects) == len(named)
    return {name: content or "secret" for each in objects for name, content in each["stringData"].items()}


def kubernetes_environment(service: str) -> dict[str, str]:
    """What a pod gets."""
    (pod,) = [pod for pod in PODS if pod["metadata"]["name"] == service]
    return of_sources(pod["spec"]["template"]["spec"]["containers"][0]["envFrom"])


def job_environment(service: str) -> dict[str, str]:
    """What the job of a run gets, where nights are jobs."""
    assert service == "nights"
    pod = TEMPLATE["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert json.dumps(pod).count("secretRef") == 1
    return of_sources(pod["containers"][0]["envFrom"])


WAYS = {
    "compose": compose_environment,
    "systemd": systemd_environment,
    "kubernetes": kubernetes_environment,
    "job": job_environment,
}
CELLS = [
    *(
        (way, process)
        for way in ("compose", "systemd", "kubernetes")
        for process in (*PROCESSES, "prefect", "migrate")
    ),
    ("job", "nights"),
]


def test_every_secret_has_its_processes() -> None:
    """A setting that is new and secret has a line in the table before anything is deployed with it."""
    secret = {name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}

    assert SECRETS.keys() == secret | {"DATABASE_URL"}


@pytest.mark.parametrize(("way", "service"), CELLS)
def test_service_gets_its_own_secrets_and_no_others(way: str, service: str) -> None:
    """Even if all of them are in the file that all services read."""
    environment = WAYS[way](service)
    own = {name for name in OF_PROVIDERS if service in SECRETS[name]}
    optional = {"SENTRY_DSN"} if way in {"kubernetes", "job"} else set()  # not among the examples

    assert environment.keys() & OF_PROVIDERS | optional & own == own


@pytest.mark.parametrize(("way", "service"), [cell for cell in CELLS if cell[1] in PROCESSES])
def test_process_has_a_login_of_its_own(way: str, service: str) -> None:
    """Which `logins.sql` makes, and gives the roles of that process alone."""
    environment = WAYS[way](service)
    login = environment["DATABASE_URL"].split("//")[1].split(":")[0]
    statements = (DEPLOYMENTS / "postgres" / "logins.sql").read_text()

    assert login == f"calltally_{service}_login"
    assert f"GRANT {', '.join(LOGINS[service])} TO {login};\n" in statements
    assert f"ALTER ROLE {login} LOGIN PASSWORD" in statements
    assert statements.count(f" TO {login}") == 1
    if way == "job":  # it runs no verb of ours that would say so
        assert environment[PROCESS_VARIABLE] == service


@pytest.mark.parametrize("way", ["compose", "systemd", "kubernetes"])
def test_prefects_server_cannot_see_the_books(way: str) -> None:
    """It has its own database."""
    assert "DATABASE_URL" not in WAYS[way]("prefect")


def test_people_have_everything() -> None:
    """At the command line all providers can be asked, as somebody who may do everything but write tables."""
    assert compose_environment("cli").keys() >= SECRETS.keys()
    assert kubernetes_environment("cli").keys() >= OF_PROVIDERS - {"SENTRY_DSN"}
    for environment in (compose_environment("cli"), kubernetes_environment("cli")):
        assert "//calltally_service:" in environment["DATABASE_URL"]
