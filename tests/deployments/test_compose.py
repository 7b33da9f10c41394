"""The compose file: its structure, and its services started without containers by the very same commands."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.docs.pages import blocks

from .places import DEPLOYMENTS, ROOT, interpolate, read_env_file, unknown_settings, verbs

OF_POSTGRES = {"POSTGRES_DB", "POSTGRES_PASSWORD", "POSTGRES_INITDB_ARGS"}
EXAMPLE = read_env_file(DEPLOYMENTS / "compose.env.example")
FILLED = {name: content or "secret" for name, content in EXAMPLE.items()}
CLIENTS = ("receiver", "worker", "nights")
OURS = ("migrate", "prefect", "receiver", "worker", "nights")


def compose(variables: Mapping[str, str] = FILLED) -> dict[str, Any]:
    """The file as Compose reads it."""
    content: dict[str, Any] = yaml.safe_load(interpolate((DEPLOYMENTS / "compose.yaml").read_text(), variables))
    return content


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """Each service by its name."""
    found: dict[str, Any] = compose()["services"]
    return found


def test_every_password_is_asked_for_and_none_has_a_default() -> None:
    """Compose refuses to start while one is empty, and the example names each variable that the file reads."""
    used = set(re.findall(r"\$\{([A-Z_]+)", (DEPLOYMENTS / "compose.yaml").read_text()))

    assert used == set(EXAMPLE)
    for name in used - {"CALLTALLY_IMAGE"}:
        with pytest.raises(KeyError, match=name):
            compose({**FILLED, name: ""})


@pytest.mark.parametrize("name", OURS)
def test_our_services_run_known_verbs_without_any_right(services: dict[str, Any], name: str) -> None:
    """A verb of ours, settings that exist, a health check, limits, and nothing that can be written."""
    service = services[name]
    health = service["healthcheck"]

    assert service["command"][0] in verbs()
    assert len(service["command"]) == 1
    assert unknown_settings(service["environment"]) == set()
    assert service["env_file"] == ["calltally.env"]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    if name == "migrate":
        assert health == {"disable": True}
        assert service["restart"] == "on-failure:3"
    else:
        assert health["test"] == ["CMD", "calltally", "healthy", *service["command"]]
        assert service["restart"] == "unless-stopped"
        assert service["depends_on"]["postgres"] == {"condition": "service_healthy"}


def test_services_wait_for_what_they_need(services: dict[str, Any]) -> None:
    """Those that touch the books start after the migration and with Prefect's server."""
    for name in ("receiver", "worker", "nights"):
        conditions = {other: wait["condition"] for other, wait in services[name]["depends_on"].items()}
        assert conditions == {
            "postgres": "service_healthy",
            "migrate": "service_completed_successfully",
            "prefect": "service_healthy",
        }


def test_only_caddy_is_public_and_the_database_is_reached_by_its_users_alone(services: dict[str, Any]) -> None:
    """Published ports, and who shares a network with whom."""
    networks = compose()["networks"]
    reach = {name: set(service["networks"]) for name, service in services.items()}

    assert [name for name, service in services.items() if "ports" in service] == ["caddy"]
    assert networks["data"] == networks["edge"] == {"internal": True}
    assert reach["postgres"] == {"data"}
    assert "data" not in reach["caddy"]
    assert {name for name in reach if "edge" in reach[name]} == {"caddy", "receiver", "prefect"}


def test_whoever_tells_slack_or_asks_providers_gets_out_and_nobody_else(services: dict[str, Any]) -> None:
    """Prefect's server too, since it runs the automations; the database and what the internet reaches stay inside."""
    networks = compose()["networks"]
    out = {
        name
        for name, service in services.items()
        if any(not (networks[network] or {}).get("internal") for network in service["networks"])
    }

    assert out == {"caddy", "prefect", "worker", "nights", "cli"}


def test_receiver_gets_out_with_the_lines_of_the_page(services: dict[str, Any]) -> None:
    """What the page says to add is read by Compose as it stands, and gives up none of its networks."""
    (block,) = blocks(DEPLOYMENTS / "prometheus" / "README.md", "yaml")[:1]
    added = yaml.safe_load(block.text)["services"]

    assert set(added) == {"receiver"}
    assert set(added["receiver"]["networks"]) == {*services["receiver"]["networks"], "internet"}


def test_only_the_migration_owns_the_schema(services: dict[str, Any]) -> None:
    """Every other service has a login that may do less; Prefect's pages are behind a password."""
    owners = [name for name, service in services.items() if "//postgres:" in str(service.get("environment"))]
    caddyfile = (DEPLOYMENTS / "Caddyfile").read_text()

    assert owners == ["migrate"]
    assert set(services["postgres"]["environment"]) - OF_POSTGRES == {
        *("CALLTALLY_DB_PASSWORD", "PREFECT_DB_PASSWORD"),
        *(f"CALLTALLY_{name}_DB_PASSWORD" for name in ("RECEIVER", "WORKER", "NIGHTS")),
    }
    assert set(re.findall(r"\{\$(\w+)\}", caddyfile)) == set(services["caddy"]["environment"])
    assert "basic_auth" in caddyfile[caddyfile.index("{$PREFECT_DOMAIN}") :]
    assert "/metrics" not in re.sub(r"#.*", "", caddyfile)


def test_prefect_asks_all_others_for_a_password(services: dict[str, Any]) -> None:
    """The same that Caddy asks for: its pages send it in the same header. Leases of runs outlive its container."""
    login = f"{FILLED['PREFECT_USER']}:{FILLED['PREFECT_PASSWORD']}"
    prefect = services["prefect"]
    (volume,) = prefect["volumes"]

    assert {services[name]["environment"]["PREFECT_API_AUTH_STRING"] for name in ("prefect", *CLIENTS)} == {login}
    assert services["caddy"]["environment"]["PREFECT_USER"] == FILLED["PREFECT_USER"]
    assert prefect["environment"]["PREFECT_HOME"].startswith(volume.partition(":")[2])


def test_prometheus_finds_every_container_by_name_and_port(services: dict[str, Any]) -> None:
    """The targets are services, on the ports where they answer, with the token that they ask for."""
    config = yaml.safe_load((DEPLOYMENTS / "compose-prometheus.yaml").read_text())
    worker = services["worker"]["environment"]
    targets = {
        (found["names"][0], found["port"]) for job in config["scrape_configs"] for found in job["dns_sd_configs"]
    }

    assert targets == {("receiver", int(worker["RECEIVER_PORT"])), ("worker", int(worker["WORKER_METRICS_PORT"]))}
    assert worker["WORKER_METRICS_HOST"] == "0.0.0.0"
    assert worker["METRICS_TOKEN"] == FILLED["METRICS_TOKEN"]
    assert {name for name in ("receiver", "worker", "prometheus") if "data" in services[name]["networks"]} == {
        *("receiver", "worker", "prometheus")
    }
    assert services["prometheus"]["secrets"] == ["metrics_token"]


def test_secrets_of_the_installation_stay_out_of_the_repository_and_of_the_image() -> None:
    """Both files with secrets are ignored by git and by the build."""
    ignored = (ROOT / ".gitignore").read_text().splitlines()

    assert {".env", "deployments/calltally.env"} <= set(ignored)
    assert "!deployments" not in (ROOT / ".dockerignore").read_text().splitlines()


def test_links_to_runs_lead_to_prefects_public_pages(services: dict[str, Any]) -> None:
    """Every service that writes one knows the name under which Caddy shows them, and so does Prefect's server."""
    pages = f"https://{FILLED['PREFECT_DOMAIN']}"

    assert {services[name]["environment"]["PREFECT_UI_URL"] for name in OURS} == {pages}
    assert services["prefect"]["environment"]["PREFECT_SERVER_UI_API_URL"] == f"{pages}/api"
