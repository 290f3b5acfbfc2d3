"""The witness's alert rules, held to what a witness tells Prometheus."""

import importlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client.metrics_core import Metric

from console.witness.metrics import ALARMS, WitnessCollector
from console.witness.record import Robot, Witness
from console.witness.service import WitnessService
from console.witness.store import Store
from tests.metrics.test_alerts import ALERTS as OF_THE_AGENT
from tests.metrics.test_alerts import FOLDER, Alert, alerts, ask_promtool, selectors, told_in_both

RULES = FOLDER / "robot-warden-witness.rules.yml"
ALERTS = alerts(RULES)
each = pytest.mark.parametrize("alert", ALERTS, ids=[alert.name for alert in ALERTS])


@pytest.fixture
def families(tmp_path: Path) -> dict[str, Metric]:
    """By the name of their series, of a witness that follows one robot."""
    witness = Witness(Store(tmp_path / "w"))
    witness.robots["R1"] = Robot()
    service = cast("WitnessService", SimpleNamespace(connected_since_s=None, dropped=0))
    return {
        sample.name: family
        for family in WitnessCollector(witness, service).collect()
        for sample in family.samples
    }


def values(family: Metric, label: str) -> set[str]:
    return {sample.labels[label] for sample in family.samples}


@each
def test_a_rule_asks_for_metrics_labels_and_values_that_exist(
    alert: Alert, families: dict[str, Metric]
) -> None:
    found = selectors(alert.expression)
    assert found
    for name, braces in found:
        for label, asked in re.findall(r'([a-z_]+)=~?"([^"]*)"', braces):
            assert set(asked.split("|")) <= values(families[name], label)
        grows = bool(re.search(r"(rate|increase)\(" + re.escape(name), alert.expression))
        assert grows == (families[name].type == "counter")


@each
def test_a_rule_is_told_in_both_languages_and_names_labels_that_it_has(
    alert: Alert, families: dict[str, Metric]
) -> None:
    told_in_both(alert)
    known = {"instance"}.union(
        *(sample.labels for name, _ in selectors(alert.expression) for sample in families[name].samples)
    )
    for text in alert.annotations.values():
        assert set(re.findall(r"\$labels\.([a-z_]+)", text)) <= known


def test_every_metric_has_a_rule(families: dict[str, Metric]) -> None:
    asked = {name for alert in ALERTS for name, _ in selectors(alert.expression)}
    assert families.keys() - asked == {"warden_witness_entry"}, "a number to look at"


def test_every_kind_of_alarm_is_told_but_the_end_of_one() -> None:
    words = "".join(alert.expression for alert in ALERTS)
    by_state = {"silent": "warden_witness_silent", "damaged": "warden_witness_unfollowed"}
    untold = [code for code in ALARMS if by_state.get(code, code) not in words]
    assert untold == ["back"]


def test_names_are_different_from_the_agents_too() -> None:
    names = [alert.name for alert in (*ALERTS, *OF_THE_AGENT)]
    assert len(set(names)) == len(names)


def test_the_server_example_loads_the_rules_and_scrapes_the_address_of_the_readme() -> None:
    yaml: Any = importlib.import_module("yaml")
    server = yaml.safe_load((FOLDER / "prometheus-witness.yml").read_text(encoding="utf-8"))
    assert server["rule_files"] == [RULES.name]
    (job,) = server["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    assert f"--metrics {target}" in (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")
    ask_promtool(FOLDER / "prometheus-witness.yml")
