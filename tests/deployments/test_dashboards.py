"""The dashboards are what Grafana loads, and speak of metrics that the program has."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from .monitoring import DEPLOYMENTS, known_metrics, problems, selectors
from .peers import needs, verdict

FILES = sorted((DEPLOYMENTS / "grafana").glob("*.json"))
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24


def dashboard(file: Path) -> dict[str, Any]:
    """A dashboard."""
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def expressions(file: Path) -> list[str]:
    """What its panels ask Prometheus."""
    return [target["expr"] for panel in dashboard(file)["panels"] for target in panel["targets"]]


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """What the program shows."""
    return known_metrics()


def test_there_is_a_dashboard_for_each_subject() -> None:
    """Each with an address of its own."""
    assert [file.stem for file in FILES] == ["money", "operations", "reconciliation"]
    assert {dashboard(file)["uid"] for file in FILES} == {f"calltally-{file.stem}" for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_dashboard_speaks_of_metrics_that_there_are(file: Path, known: dict[str, set[str]]) -> None:
    """A metric that is renamed leaves no empty panel."""
    assert {expression: problems(expression, known) for expression in expressions(file)} == {
        expression: [] for expression in expressions(file)
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_legends_name_labels_that_the_expression_leaves(file: Path, known: dict[str, set[str]]) -> None:
    """A legend never shows a pair of braces."""
    for panel in dashboard(file)["panels"]:
        for target in panel["targets"]:
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            labels = {label for chosen in selectors(target["expr"]) for label in known[chosen.name]}
            kept = re.findall(r"by \(([^)]*)\)", target["expr"])
            left = {label.strip() for label in kept[0].split(",")} if kept else labels | {"job", "instance"}
            assert named <= left, (panel["title"], target["expr"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_dashboard_is_of_the_form_that_grafana_loads(file: Path) -> None:
    """Panels with ids, places that do not overlap, explanations, and the data source that the reader chooses."""
    content = dashboard(file)
    taken: set[tuple[int, int]] = set()
    for panel in content["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        assert place["x"] + place["w"] <= WIDTH
        taken |= cells
        assert panel["type"] in {"stat", "timeseries"}
        assert panel["title"]
        assert panel["description"].endswith(".") or "`" in panel["description"]
        assert panel["datasource"] == SOURCE
        assert panel["fieldConfig"]["defaults"]["unit"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0
        assert all(target["datasource"] == SOURCE for target in panel["targets"])
    ids = [panel["id"] for panel in content["panels"]]

    assert len(set(ids)) == len(ids)
    assert [variable["name"] for variable in content["templating"]["list"]] == ["datasource"]
    assert content["templating"]["list"][0]["query"] == "prometheus"
    assert content["timezone"] == "utc"
    assert "id" not in content  # Grafana gives each its own


def test_provisioning_names_a_folder_of_dashboards() -> None:
    """As Grafana's file provider reads it."""
    provider = yaml.safe_load((DEPLOYMENTS / "grafana" / "dashboards.yaml").read_text())

    assert provider["apiVersion"] == 1
    assert [(each["type"], "path" in each["options"]) for each in provider["providers"]] == [("file", True)]


@needs("promtool")
def test_prometheus_reads_every_expression(tmp_path: Path) -> None:
    """Its own parser does."""
    asked = [expression.replace("$__rate_interval", "5m") for file in FILES for expression in expressions(file)]
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(asked)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    code, said = verdict("promtool", "check", "rules", "rules.yaml", folder=tmp_path)

    assert code == 0, said
