"""The shipped alert rules, held to the table of metrics: a rule on a name that does not exist never fires."""

import importlib
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.core.responses import Response
from agent.metrics import BY_NAME, CHANNELS, CODES, STREAMS
from agent.processes import PROCESSES
from agent.realtime import KINDS

FOLDER = Path(__file__).parents[2] / "config" / "prometheus"
RULES = FOLDER / "robot-warden.rules.yml"

WORDS = {
    "channel": set(CHANNELS),
    "module": {process.name for process in PROCESSES},
    "kind": set(KINDS),
    "response": {response.label for response in Response},
    "result": {"accepted", *CODES},
    "stream": set(STREAMS),
    "folder": {"run", "state", "log"},
    "cause": {"not_still"},
}
"""Labels whose values are fixed: a rule may ask for no other one."""


@dataclass(frozen=True)
class Alert:
    name: str
    expression: str
    severity: str
    annotations: dict[str, str]


def alerts(rules: Path) -> list[Alert]:
    yaml = importlib.import_module("yaml")
    groups = yaml.safe_load(rules.read_text(encoding="utf-8"))["groups"]
    return [
        Alert(rule["alert"], rule["expr"], rule["labels"]["severity"], rule["annotations"])
        for group in groups
        for rule in group["rules"]
    ]


ALERTS = alerts(RULES)
each = pytest.mark.parametrize("alert", ALERTS, ids=[alert.name for alert in ALERTS])


def selectors(expression: str) -> list[tuple[str, str]]:
    """Every metric with what stands in its braces."""
    return re.findall(r"\b(warden_[a-z0-9_]+)(?:\{([^}]*)\})?", expression)


def row(name: str) -> str:
    name = name.removeprefix("warden_")
    return re.sub(r"_(bucket|sum|count)$", "", name) if name not in BY_NAME else name


def test_names_are_different_and_there_are_some() -> None:
    assert len({alert.name for alert in ALERTS}) == len(ALERTS) > 20


@each
def test_a_rule_asks_for_metrics_labels_and_values_that_exist(alert: Alert) -> None:
    found = selectors(alert.expression)
    assert found
    for name, braces in found:
        metric = BY_NAME[row(name)]
        assert name.endswith("_bucket") == (metric.kind == "histogram")
        for label, value in re.findall(r'([a-z_]+)=~?"([^"]*)"', braces):
            assert label in metric.labels
            assert set(value.split("|")) <= WORDS[label]


@each
def test_a_counter_is_asked_for_its_growth_only(alert: Alert) -> None:
    for name, _ in selectors(alert.expression):
        grows = BY_NAME[row(name)].kind != "gauge"
        asked = re.search(r"(rate|increase)\(" + re.escape(name), alert.expression)
        assert bool(asked) == grows


@each
def test_a_rule_is_told_in_both_languages_and_names_labels_that_it_has(alert: Alert) -> None:
    told_in_both(alert)
    known = {"instance"}.union(*(BY_NAME[row(name)].labels for name, _ in selectors(alert.expression)))
    for text in alert.annotations.values():
        assert set(re.findall(r"\$labels\.([a-z_]+)", text)) <= known


def told_in_both(alert: Alert) -> None:
    assert alert.severity in {"critical", "warning", "info"}
    assert set(alert.annotations) == {"summary", "summary_zh"}
    assert re.search(r"[\u4e00-\u9fff]", alert.annotations["summary_zh"])
    assert not re.search(r"[\u4e00-\u9fff]", alert.annotations["summary"])


def test_the_readme_names_metrics_and_alerts_of_the_log_that_exist() -> None:
    """The six words: each is measured, and each has an alert on that very measure."""
    table = (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8").partition("| of the log |")[2]
    rows = [line.split("|")[1:4] for line in table.partition("\n\n")[0].splitlines()[2:]]
    words = ["volume", "age", "loss", "commits", "witness lag", "space"]
    assert [row[0].split("（")[0].strip() for row in rows] == words
    by_name = {alert.name: alert for alert in ALERTS}
    for _, metrics, names in rows:
        measured = re.findall(r"`(warden_[a-z_]+)`", metrics)
        assert measured
        assert {row(name) for name in measured} <= BY_NAME.keys()
        asked = {by_name[name].expression for name in re.findall(r"`(\w+)`", names)}
        assert asked
        assert all(any(name in expression for name in measured) for expression in asked)


def test_the_server_example_loads_the_rules_and_scrapes_the_plans_default_address() -> None:
    yaml = importlib.import_module("yaml")
    server = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    assert server["rule_files"] == [RULES.name]
    (job,) = server["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["127.0.0.1:9477"]}]
    ask_promtool(FOLDER / "prometheus.yml")


def ask_promtool(config: Path) -> None:
    """Its own word where it is installed; without it the rules of this file stand alone."""
    promtool = shutil.which("promtool")
    if promtool is not None:
        command = [promtool, "check", "config", str(config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
