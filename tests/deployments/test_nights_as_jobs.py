"""A pod for each night: the template makes jobs that a cluster takes, and the patches fit what they patch."""

import json
from copy import deepcopy
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import prefect
import pytest
import yaml  # type: ignore[import-untyped]
from prefect.utilities.templating import apply_values

from .test_kubernetes import FOLDER, MANIFESTS, SECRETS, VERSIONS, label

JOBS = FOLDER / "nights-as-jobs"
TEMPLATE = json.loads((JOBS / "base-job-template.json").read_text())
PREFECT_ASKS_FOR = ("completions", "parallelism")
"""In the pod, where Kubernetes does not know them and leaves them out; and for the name of the container
(`prefect-kubernetes` 0.8: without them it refuses every run)."""
OURS = {label(document): document for document in MANIFESTS}


def read(name: str) -> list[dict[str, Any]]:
    """The documents of a file of the folder."""
    return list(yaml.safe_load_all((JOBS / name).read_text()))


def nights_pod() -> dict[str, Any]:
    """The pod that runs nights without this folder."""
    pod: dict[str, Any] = OURS["Deployment nights"]["spec"]["template"]
    return pod


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    """What Prefect's worker would send to the cluster for a run: the template with defaults, and what it fills in
    where a template says nothing (`prefect-kubernetes` 0.8); a run that wants more than resources is not heard."""
    variables = TEMPLATE["variables"]["properties"]
    defaults = {name: each["default"] for name, each in variables.items() if "default" in each}
    chosen = {"command": "sh", "image": "evil", "env": [{"name": "BASH_ENV", "value": "x"}], "namespace": "other"}
    manifest: dict[str, Any] = apply_values(TEMPLATE["job_configuration"], {**defaults, **chosen})["job_manifest"]
    manifest["metadata"] |= {"generateName": "nightly-", "labels": {"prefect.io/flow-run-name": "nightly"}}
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    container["args"] = container.get("args", ["prefect", "flow-run", "execute"])
    container["env"] = [{"name": "PREFECT__FLOW_RUN_ID", "value": "of the run"}, *container.get("env", [])]
    return manifest


@pytest.mark.parametrize("version", VERSIONS)
def test_job_of_a_run_is_valid(job: dict[str, Any], version: str) -> None:
    """Nothing of the template is left in it, and no field is misspelt."""
    job = deepcopy(job)
    for name in PREFECT_ASKS_FOR:
        assert job["spec"]["template"]["spec"].pop(name) == 1
    assert "{{" not in json.dumps(job)
    kubernetes_validate.validate(job, version, strict=True)


def test_job_executes_the_run_with_our_settings_once(job: dict[str, Any]) -> None:
    """Prefect's command passes by the image's entry point; a night that died is not started again by the cluster."""
    (container,) = job["spec"]["template"]["spec"]["containers"]

    assert container["name"] == "prefect-job"
    assert container["command"] == ["/usr/bin/env"]
    assert container["args"] == ["prefect", "flow-run", "execute"]
    assert {"PREFECT__FLOW_RUN_ID"} == {each["name"] for each in container["env"]}
    assert set(TEMPLATE["variables"]["properties"]) == {"cpu_request", "memory_request", "memory_limit"}
    assert TEMPLATE["variables"]["additionalProperties"] is False
    assert container["envFrom"] == nights_pod()["spec"]["containers"][0]["envFrom"]
    assert (job["spec"]["backoffLimit"], job["spec"]["template"]["spec"]["restartPolicy"]) == (0, "Never")


def test_pod_of_a_run_is_as_restricted_and_reaches_the_same_as_one_for_all(job: dict[str, Any]) -> None:
    """Labels choose its network policies."""
    pod, ours = job["spec"]["template"], nights_pod()
    (container,), (our_container,) = pod["spec"]["containers"], ours["spec"]["containers"]

    assert pod["metadata"]["labels"].items() >= ours["metadata"]["labels"].items()
    assert pod["spec"]["securityContext"] == ours["spec"]["securityContext"]
    assert container["securityContext"] == our_container["securityContext"]
    assert (pod["spec"]["automountServiceAccountToken"], pod["spec"]["enableServiceLinks"]) == (False, False)
    assert "memory" in container["resources"]["limits"]


def test_worker_is_of_the_same_prefect() -> None:
    """An older one may not know what the server asks of it."""
    (patch,) = read("nights.yaml")
    (container,) = patch["spec"]["template"]["spec"]["containers"]

    assert container["image"].startswith(f"prefecthq/prefect:{prefect.__version__}-")


def test_image_is_that_of_the_other_pods() -> None:
    """Kustomize does not look into JSON, so both must be changed."""
    (image,) = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["images"]
    (container,) = TEMPLATE["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["containers"]

    assert container["image"] == f"{image['newName']}:{image['newTag']}"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", read("rights.yaml"), ids=label)
def test_rights_are_valid_and_end_at_jobs_and_their_pods(document: dict[str, Any], version: str) -> None:
    """No secrets, nothing of another namespace."""
    kubernetes_validate.validate(document, version, strict=True)

    assert document["kind"] != "ClusterRole"
    for rule in document.get("rules", []):
        assert set(rule["resources"]) <= {"jobs", "pods", "pods/log", "pods/status", "events"}


def test_patch_fits_the_deployment_that_it_patches() -> None:
    """Kustomize refuses one that names nothing; the container keeps its name, and its volumes exist."""
    (patch,) = read("nights.yaml")
    pod, ours = patch["spec"]["template"]["spec"], nights_pod()["spec"]
    volumes = {volume["name"] for volume in (*pod["volumes"], *ours["volumes"])}

    assert label(patch) in OURS
    assert [container["name"] for container in pod["containers"]] == [each["name"] for each in ours["containers"]]
    assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} <= volumes
    assert pod["serviceAccountName"] in {each["metadata"]["name"] for each in read("rights.yaml")}
    assert label(patch) not in {label(document) for document in SECRETS}
