"""The meter beside a plain model of itself, and its limits."""

import json
import math
from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metrics import BY_NAME, MAX_LABEL_CHARS, MAX_SERIES, METRICS, OTHER, REACTION_BUCKETS, Meter


def series(meter: Meter, name: str) -> dict[tuple[str, ...], object]:
    return {tuple(cast("list[str]", labels)): value for labels, value in meter.snapshot()[name]}


def test_counters_grow_and_gauges_are_set() -> None:
    meter = Meter()
    meter.inc("robot_beats_total")
    meter.inc("robot_beats_total", by=4)
    meter.inc("log_lost_total", "safety", by=0)
    meter.set("epoch", 7, "reflex")
    meter.set("epoch", 3, "remote")
    meter.set("epoch", 8, "reflex")
    assert series(meter, "robot_beats_total") == {(): 5}
    assert series(meter, "log_lost_total") == {("safety",): 0}
    assert series(meter, "epoch") == {("reflex",): 8, ("remote",): 3}


def test_an_observation_on_a_bound_belongs_to_that_bucket() -> None:
    meter = Meter()
    for seconds in (0.0, 0.0001, 0.00011, 1.0, 1.1):
        meter.observe("reaction_seconds", seconds, "input")
    total, counts = cast("tuple[float, list[int]]", series(meter, "reaction_seconds")[("input",)])
    assert total == pytest.approx(2.10021)
    assert counts == [2, 1, *[0] * (len(REACTION_BUCKETS) - 3), 1, 1]


@given(st.lists(st.floats(0, 10)))
def test_every_observation_is_in_one_bucket(times: list[float]) -> None:
    meter = Meter()
    meter.preset("reaction_seconds", "input")
    for seconds in times:
        meter.observe("reaction_seconds", seconds, "input")
    _, counts = cast("tuple[float, list[int]]", series(meter, "reaction_seconds")[("input",)])
    for index, bound in enumerate(REACTION_BUCKETS):
        assert sum(counts[: index + 1]) == sum(seconds <= bound for seconds in times)
    assert sum(counts) == len(times)


def test_a_preset_series_is_there_before_anything_is_counted_and_takes_nothing_back() -> None:
    meter = Meter()
    meter.preset("robot_beats_total")
    meter.preset("input_state", "estop")
    meter.preset("reaction_seconds", "peer")
    meter.inc("log_lost_total", "safety")
    meter.preset("log_lost_total", "safety")
    meter.observe("loop_lag_seconds", 0.2, "reflex")
    meter.preset("loop_lag_seconds", "reflex")
    assert series(meter, "robot_beats_total") == {(): 0}
    assert series(meter, "input_state") == {("estop",): -1}  # not known, not "open"
    assert series(meter, "reaction_seconds") == {("peer",): [0, [0] * (len(REACTION_BUCKETS) + 1)]}
    assert series(meter, "log_lost_total") == {("safety",): 1}
    assert cast("list[float]", series(meter, "loop_lag_seconds")[("reflex",)])[0] == 0.2


def test_a_name_without_a_row_is_a_mistake() -> None:
    meter = Meter()
    mistakes: list[Callable[[], None]] = [
        lambda: meter.inc("warden_robot_beats_total"),
        lambda: meter.set("robot_beats", 1),
        lambda: meter.observe("lag", 1),
        lambda: meter.preset(""),
    ]
    for wrong in mistakes:
        with pytest.raises(KeyError):
            wrong()


def test_a_wrong_kind_is_a_mistake_also_where_the_series_exists() -> None:
    meter = Meter()
    meter.inc("robot_beats_total")
    meter.set("mqtt_connected", 1)
    mistakes: list[Callable[[], None]] = [
        lambda: meter.set("robot_beats_total", 1),
        lambda: meter.inc("mqtt_connected"),
        lambda: meter.observe("mqtt_connected", 1),
        lambda: meter.inc("loop_lag_seconds", "reflex"),
    ]
    for wrong in mistakes:
        with pytest.raises(ValueError, match="is a"):
            wrong()
    assert series(meter, "robot_beats_total") == {(): 1}
    assert series(meter, "mqtt_connected") == {(): 1}


def test_a_wrong_number_of_labels_is_a_mistake() -> None:
    meter = Meter()
    mistakes: list[Callable[[], None]] = [
        lambda: meter.inc("log_lost_total"),
        lambda: meter.set("epoch", 1, "reflex", "remote"),
        lambda: meter.observe("reaction_seconds", 1),
        lambda: meter.preset("robot_beats_total", "x"),
    ]
    for wrong in mistakes:
        with pytest.raises(ValueError, match="takes the labels"):
            wrong()
    assert meter.snapshot() == {}


@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf, -math.inf])
def test_only_a_gauge_may_be_negative_and_nothing_is_infinite(value: float) -> None:
    meter = Meter()
    with pytest.raises(ValueError, match="cannot grow"):
        meter.inc("robot_beats_total", by=value)
    with pytest.raises(ValueError, match="duration cannot be"):
        meter.observe("reaction_seconds", value, "input")
    if math.isfinite(value):
        meter.set("log_bytes", value, "safety")
        assert series(meter, "log_bytes") == {("safety",): value}
    else:
        with pytest.raises(ValueError, match="gauge cannot be"):
            meter.set("log_bytes", value, "safety")
        assert meter.snapshot() == {}


def test_a_flood_of_labels_is_counted_and_not_kept() -> None:
    meter = Meter()
    for number in range(MAX_SERIES + 100):
        meter.inc("bad_input_total", f"source{number}")
        meter.observe("reaction_seconds", 0.1, f"path{number}")
    meter.inc("bad_input_total", "source0")
    counted = series(meter, "bad_input_total")
    assert len(counted) == MAX_SERIES + 1
    assert counted[(OTHER,)] == 100
    assert counted[("source0",)] == 2  # the known ones go on
    observed = series(meter, "reaction_seconds")
    assert len(observed) == MAX_SERIES + 1
    assert sum(cast("tuple[float, list[int]]", observed[(OTHER,)])[1]) == 100


def test_a_long_label_is_cut_and_counted_on_under_its_cut_name() -> None:
    meter = Meter()
    meter.inc("bad_input_total", "x" * 5000)
    meter.inc("bad_input_total", "x" * 6000)
    meter.set("log_bytes", 1, "y" * 5000)
    meter.set("log_bytes", 2, "y" * 5000)
    assert series(meter, "bad_input_total") == {("x" * MAX_LABEL_CHARS,): 2}
    assert series(meter, "log_bytes") == {("y" * MAX_LABEL_CHARS,): 2}


def test_an_answer_is_json_and_later_counts_do_not_change_it() -> None:
    meter = Meter()
    for metric in METRICS:
        meter.preset(metric.name, *("x" for _ in metric.labels))
    answer = meter.answer()
    text = json.dumps(answer, allow_nan=False)
    meter.inc("robot_beats_total")
    meter.observe("reaction_seconds", 0.5, "x")
    assert json.dumps(answer) == text
    assert json.loads(text) == answer
    assert answer["type"] == "metrics"
    assert set(cast("dict[str, object]", answer["data"])) == set(BY_NAME)
