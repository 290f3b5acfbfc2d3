"""The table of metrics, held to PROTOCOL 6 and to the rules of `promtool check metrics`."""

import re

import pytest

from agent.metrics import METRICS, REACTION_BUCKETS, Metric
from agent.processes import BY_NAME as PROCESSES_BY_NAME

REQUIRED = {
    "build_info": {"version", "digest", "robot_id"},
    "response": {"channel", "response"},
    "motion_permitted": {"channel"},
    "power_permitted": {"channel"},
    "epoch": {"channel"},
    "stops_total": {"channel", "cause", "response"},
    "reaction_seconds": {"path"},
    "input_state": {"input"},
    "input_faults_total": {"input"},
    "commands_total": {"cmd", "result"},
    "command_stage_seconds": {"cmd", "stage"},
    "mqtt_connected": set(),
    "mqtt_reconnects_total": set(),
    "module_up": {"module"},
    "loop_lag_seconds": {"module"},
    "robot_beats_total": set(),
    "robot_last_beat_timestamp_seconds": set(),
    "log_records_total": {"stream"},
    "log_lost_total": {"stream"},
    "log_bytes": {"stream"},
    "log_oldest_timestamp_seconds": {"stream"},
    "log_last_commit_timestamp_seconds": set(),
    "log_witnessed_entry": set(),
    "certificate_expiry_timestamp_seconds": {"name"},
    "clock_synchronised": set(),
}
"""PROTOCOL 6, as far as what it counts exists yet."""

# promtool's own lists (promlint), as far as a name of ours could meet them.
NOT_BASE_UNITS = re.compile(
    r"(^|_)((milli|micro|nano|kilo|mega|giga|tera|kibi|mebi|gibi|tebi|centi)?"
    r"(second|byte|meter|metre|gram|volt|ampere|joule)|"
    r"(milli|micro|nano|kilo|mega|giga|tera|kibi|mebi|gibi|tebi|centi)"
    r"(seconds|bytes|meters|metres|grams|volts|amperes|joules|celsius)|"
    r"minutes?|hours?|days?|weeks?|kelvins?|fahrenheit|inch(es)?|yards?|miles?|bits?|calories|pounds?|ounces?)(_|$)"
)
ABBREVIATIONS = {"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"}
TYPE_WORDS = {"counter", "gauge", "histogram", "summary", "untyped"}


def ids(metric: Metric) -> str:
    return metric.name


def test_everything_that_the_protocol_asks_for_is_there_with_its_labels() -> None:
    labels = {metric.name: set(metric.labels) for metric in METRICS}
    assert {name: labels.get(name) for name in REQUIRED} == REQUIRED
    assert {name.removeprefix("host_") for name in labels if name.startswith("host_")} == {
        "cpu_seconds_total",
        "load1",
        "load5",
        "load15",
        "memory_bytes",
        "disk_size_bytes",
        "disk_free_bytes",
        "temperature_celsius",
        "boot_timestamp_seconds",
    }


def test_no_name_comes_twice() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)


@pytest.mark.parametrize("metric", METRICS, ids=ids)
def test_names_follow_promtool(metric: Metric) -> None:
    words = metric.name.split("_")
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert not metric.name.endswith(("_count", "_sum", "_bucket"))
    assert not NOT_BASE_UNITS.search(metric.name)
    assert not ABBREVIATIONS & set(words)
    assert not TYPE_WORDS & set(words)
    assert "timestamp" not in words or metric.name.endswith("_timestamp_seconds")
    assert not metric.name.startswith("warden_")  # the prefix is put in front once


@pytest.mark.parametrize("metric", METRICS, ids=ids)
def test_help_is_a_sentence_and_labels_are_ids(metric: Metric) -> None:
    assert metric.help.endswith(".")
    assert metric.help[0].isalnum()
    assert "\n" not in metric.help
    assert len(set(metric.labels)) == len(metric.labels)
    for label in metric.labels:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", label)
        assert label not in {"le", "quantile", "job", "instance", "user", "person", "guardian"}


@pytest.mark.parametrize("metric", METRICS, ids=ids)
def test_a_histogram_has_rising_bounds_and_nothing_else_has_any(metric: Metric) -> None:
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))


@pytest.mark.parametrize("metric", METRICS, ids=ids)
def test_who_may_report_it_is_a_module_and_only_gauges_fall_with_theirs(metric: Metric) -> None:
    assert metric.by
    assert metric.by <= set(PROCESSES_BY_NAME)
    assert metric.when_down is None or metric.kind == "gauge"


def test_a_dead_module_permits_nothing_and_knows_nothing() -> None:
    fallen = {metric.name: metric.when_down for metric in METRICS if metric.when_down is not None}
    assert fallen == {"motion_permitted": 0, "power_permitted": 0, "input_state": -1, "mqtt_connected": 0}


def test_reactions_are_resolved_from_a_tenth_of_a_millisecond_to_a_second_with_the_default_ttl_a_bound() -> (
    None
):
    assert (REACTION_BUCKETS[0], REACTION_BUCKETS[-1]) == (0.0001, 1.0)
    assert 0.1 in REACTION_BUCKETS


def test_a_time_that_has_not_come_yet_is_explained() -> None:
    for metric in METRICS:
        if metric.name.endswith("_timestamp_seconds"):
            assert "Unix time" in metric.help
