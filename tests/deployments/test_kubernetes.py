"""The manifests: valid for the cluster's versions, and as restricted as they can be."""

import shutil
import subprocess
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]

from tests.docs.pages import blocks

from .places import DEPLOYMENTS, unknown_settings, verbs

FOLDER = DEPLOYMENTS / "kubernetes"
COMPONENT = ("app.kubernetes.io/component", "service")
VERSIONS = ("1.30", "1.37")


def documents(*names: str) -> list[dict[str, Any]]:
    """The documents of these files."""
    return [document for name in names for document in yaml.safe_load_all((FOLDER / name).read_text())]


MANIFESTS = documents(*yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"])
SECRETS = documents("secret.example.yaml")
PODS = [document for document in MANIFESTS if document["kind"] in {"Deployment", "Job"}]


def label(document: dict[str, Any]) -> str:
    """Kind and name."""
    return f"{document['kind']} {document['metadata']['name']}"


def of_kind(kind: str) -> list[dict[str, Any]]:
    """The manifests of a kind."""
    return [document for document in MANIFESTS if document["kind"] == kind]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", [*MANIFESTS, *SECRETS], ids=label)
def test_manifest_is_valid(document: dict[str, Any], version: str) -> None:
    """Against the schemas of the oldest and newest version that we name; a misspelt field is an error."""
    kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("document", PODS, ids=label)
def test_pod_is_restricted(document: dict[str, Any]) -> None:
    """As Pod Security's `restricted` asks and more: no root, no writing, no rights, no token of the cluster."""
    pod = document["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/tmp", "/var/lib/calltally"}
    assert "memory" in container["resources"]["limits"]
    assert "requests" in container["resources"]
    assert pod["automountServiceAccountToken"] is False
    # Else the service `receiver` puts RECEIVER_PORT=tcp://… into every pod, which is a setting of ours.
    assert pod["enableServiceLinks"] is False


@pytest.mark.parametrize("document", [pod for pod in PODS if label(pod) != "Deployment cli"], ids=label)
def test_pod_runs_a_known_verb_with_known_settings(document: dict[str, Any]) -> None:
    """And its health checks ask for that very verb, or over HTTP on a port that it names."""
    (container,) = document["spec"]["template"]["spec"]["containers"]
    (verb,) = container["args"]
    probes = [container[name] for name in container if name.endswith("Probe")]
    named = {entry["name"] for entry in container.get("env", [])}

    assert verb in verbs()
    assert unknown_settings(named) == set()
    for probe in probes:
        if "exec" in probe:
            assert probe["exec"]["command"] == ["calltally", "healthy", verb]
        else:
            assert probe["httpGet"]["port"] in {port["name"] for port in container["ports"]}
    assert len(probes) >= 2 or document["kind"] == "Job"


def test_settings_and_secrets_are_ones_that_are_read_and_exist() -> None:
    """Every key has a reader, and every reference a config map or a secret."""
    held = [*of_kind("ConfigMap"), *SECRETS]
    known = {document["metadata"]["name"] for document in held}
    keys = {key for document in held for key in {**document.get("data", {}), **document.get("stringData", {})}}
    sources = [
        next(iter(source.values()))["name"]
        for pod in PODS
        for source in pod["spec"]["template"]["spec"]["containers"][0]["envFrom"]
    ]

    assert unknown_settings(keys) == set()
    assert set(sources) == known
    assert "secret.example.yaml" not in (FOLDER / "kustomization.yaml").read_text().split("resources:")[1]


def test_links_to_runs_lead_where_prefects_pages_are_shown() -> None:
    """All pods link to one address, and Prefect's pages ask the API at that same address."""
    (prefect,) = (pod for pod in PODS if pod["metadata"]["name"] == "prefect")
    env = {entry["name"]: entry for entry in prefect["spec"]["template"]["spec"]["containers"][0]["env"]}

    assert of_kind("ConfigMap")[0]["data"]["PREFECT_UI_URL"].startswith("http")
    assert env["PREFECT_UI_URL"]["valueFrom"]["configMapKeyRef"] == {"name": "calltally", "key": "PREFECT_UI_URL"}
    assert env["PREFECT_SERVER_UI_API_URL"]["value"] == "$(PREFECT_UI_URL)/api"
    assert list(env).index("PREFECT_UI_URL") < list(env).index("PREFECT_SERVER_UI_API_URL")


def test_prefect_asks_all_others_for_a_password_and_its_leases_outlive_its_pod() -> None:
    """The example fills in the same twice; a lease that is lost ends the night that holds it."""
    secrets = {secret["metadata"]["name"]: secret["stringData"] for secret in SECRETS}
    (prefect,) = (pod["spec"]["template"]["spec"] for pod in PODS if pod["metadata"]["name"] == "prefect")
    (container,) = prefect["containers"]
    env = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    lasting = {each["name"] for each in prefect["volumes"] if "persistentVolumeClaim" in each}
    places = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] in lasting]

    asked = secrets["calltally-prefect"]["PREFECT_SERVER_API_AUTH_STRING"]
    assert ":" in asked
    assert secrets["calltally"]["PREFECT_API_AUTH_STRING"] == asked
    assert any(env["PREFECT_HOME"].startswith(place) for place in places)


def test_services_alone_wait_for_the_migration() -> None:
    """What docs/how-to/deploy.md applies first is all that the job needs, and nothing that meets the schema."""
    waiting = {label(each) for each in MANIFESTS if COMPONENT in each["metadata"].get("labels", {}).items()}

    assert waiting == {label(each) for each in MANIFESTS if each["kind"] == "Deployment"}
    assert f"--selector {'!='.join(COMPONENT)}" in (DEPLOYMENTS.parent / "docs" / "how-to" / "deploy.md").read_text()


def test_only_the_migration_owns_the_schema() -> None:
    """No long-running pod has the owner's secret."""
    owners = [label(pod) for pod in PODS if "calltally-owner" in str(pod)]

    assert owners == ["Job migrate"]


def test_network_is_closed_but_for_what_is_named() -> None:
    """One policy closes everything, and selectors match pods."""
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in of_kind("NetworkPolicy")}
    pods = {pod["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] for pod in PODS}
    wanted = {
        name
        for policy in policies.values()
        for expression in policy["podSelector"].get("matchExpressions", [])
        for name in expression["values"]
    }

    assert policies["closed"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert wanted <= pods
    for service in of_kind("Service"):
        assert service["spec"]["selector"]["app.kubernetes.io/name"] in pods
    paths = [path["path"] for path in of_kind("Ingress")[0]["spec"]["rules"][0]["http"]["paths"]]
    assert paths == ["/webhooks/", "/api/", "/health"]


def test_whoever_tells_slack_or_asks_providers_gets_out_and_nobody_else() -> None:
    """Prefect's server too, since it runs the automations; the receiver and the migration stay inside."""
    assert gets_out(of_kind("NetworkPolicy")) == {"prefect", "worker", "nights", "cli"}


def test_receiver_gets_out_with_the_policy_of_the_page() -> None:
    """What the page says to add is valid, and opens the way for nobody else."""
    policy = yaml.safe_load(blocks(DEPLOYMENTS / "prometheus" / "README.md", "yaml")[1].text)
    kubernetes_validate.validate(policy, VERSIONS[0], strict=True)

    assert gets_out([policy]) == {"receiver"}


def gets_out(policies: list[dict[str, Any]]) -> set[str]:
    """The pods that these policies let reach an address outside the cluster by HTTPS."""
    found = set()
    for pod in PODS:
        labels = pod["spec"]["template"]["metadata"]["labels"]
        for policy in policies:
            for rule in policy["spec"].get("egress", []) if selects(policy["spec"]["podSelector"], labels) else []:
                outside = not rule.get("to") or any("ipBlock" in peer for peer in rule["to"])
                if outside and 443 in {port["port"] for port in rule["ports"]}:
                    found.add(labels["app.kubernetes.io/name"])
    return found


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a selector of labels, with the operator `In` alone, means a pod."""
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        expression["operator"] == "In" and labels.get(expression["key"]) in expression["values"]
        for expression in selector.get("matchExpressions", [])
    )


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on the path: the overlay is not built")
def test_overlay_builds() -> None:
    """Kustomize puts everything into one namespace and names one image."""
    built = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, check=True, timeout=50
    )
    found = [document for document in yaml.safe_load_all(built.stdout) if document["kind"] != "Namespace"]
    images = {
        document["spec"]["template"]["spec"]["containers"][0]["image"]
        for document in found
        if "template" in str(document)
    }

    assert len(found) == len(MANIFESTS) - 1
    assert {document["metadata"]["namespace"] for document in found} == {"calltally"}
    assert images == {"registry.example.com/calltally:0.1.0"}
