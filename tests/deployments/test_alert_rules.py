"""The alert rules speak of metrics that the program has, say what to do, and fire when they should."""

import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from receiver.metrics import OUTCOMES

from .monitoring import DEPLOYMENTS, known_metrics, problems
from .peers import needs, verdict

FOLDER = DEPLOYMENTS / "prometheus"
RUNBOOK = DEPLOYMENTS.parent / "docs" / "runbook.md"


def loaded(name: str) -> Any:
    """A file of the folder."""
    return yaml.safe_load((FOLDER / name).read_text())


RULES = list(chain.from_iterable(group["rules"] for group in loaded("alerts.yaml")["groups"]))


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """What the program shows."""
    return known_metrics()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_rule_speaks_of_metrics_that_there_are(rule: dict[str, Any], known: dict[str, set[str]]) -> None:
    """A metric that is renamed silences no alarm."""
    assert problems(rule["expr"], known) == []
    assert "calltally_" in rule["expr"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_rule_says_what_happened_and_where_to_read_on(rule: dict[str, Any]) -> None:
    """A summary, a description, and the section of the runbook that bears its key."""
    annotations = rule["annotations"]

    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert set(rule["labels"]) == {"severity", "key"}
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert annotations["runbook_url"] == f"docs/runbook.md#{rule['labels']['key']}"
    assert rule["alert"] == "".join(word.capitalize() for word in rule["labels"]["key"].split("_"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_rule_has_its_section_in_the_runbook(rule: dict[str, Any]) -> None:
    """Whoever is woken up finds it."""
    key = re.escape(rule["labels"]["key"])

    assert re.search(rf"(?m)^#+ .*\b{key}\b", RUNBOOK.read_text())


def test_rules_choose_outcomes_that_there_are() -> None:
    """An outcome that is renamed silences no alarm either."""
    chosen = {
        outcome
        for rule in RULES
        for matched in re.findall(r'outcome=~?"([^"]*)"', rule["expr"])
        for outcome in matched.split("|")
    }

    assert chosen <= {*OUTCOMES.values(), "error", "hung_up"}


def test_every_rule_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    """Of promtool's kind, so that they run on any machine with Prometheus."""
    cases = list(chain.from_iterable(test["alert_rule_test"] for test in loaded("alerts_test.yaml")["tests"]))
    firing = {case["alertname"] for case in cases if case["exp_alerts"]}
    names = {rule["alert"] for rule in RULES}

    assert firing == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} >= names - {"SignatureFailures"}


def test_check_of_expressions_finds_what_is_wrong(known: dict[str, set[str]]) -> None:
    """The test above can fail."""
    assert problems("max(calltally_evnts)", known) == ["no metric calltally_evnts"]
    assert problems('calltally_events{kind="dead"}', known) == ["calltally_events has no label ['kind']"]
    assert problems("sum by (flow) (calltally_events)", known) == ["nothing in it has the label ['flow']"]
    assert problems("max(calltally_workers_alive", known) == ["brackets do not match"]


@pytest.mark.slow
@needs("promtool")
@pytest.mark.parametrize(
    "arguments", [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")], ids=" ".join
)
def test_prometheus_accepts_the_rules_and_they_fire_when_they_should(arguments: tuple[str, ...]) -> None:
    """Its own tool says so."""
    code, said = verdict("promtool", *arguments, folder=FOLDER)

    assert code == 0, said


@needs("promtool")
def test_prometheus_accepts_the_configuration(tmp_path: Path) -> None:
    """With the token beside it, as an operator puts it there."""
    for name in ("prometheus.yaml", "alerts.yaml"):
        (tmp_path / name).write_text((FOLDER / name).read_text())
    (tmp_path / "metrics_token").write_text("token")
    code, said = verdict("promtool", "check", "config", "prometheus.yaml", folder=tmp_path)

    assert code == 0, said
