"""What modules answer: believed row by row, merged, and put into Prometheus' words."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metrics import BY_NAME, MAX_LABEL_CHARS, MAX_SERIES, METRICS, REACTION_BUCKETS, Meter
from agent.monitor.tables import Buckets, Report, Table, families, merge, read_answer, read_own

BUCKETS = len(REACTION_BUCKETS) + 1


def answer(**metrics: object) -> dict[str, object]:
    return {"type": "metrics", "data": metrics}


def test_an_honest_answer_is_believed_whole() -> None:
    meter = Meter()
    meter.inc("robot_beats_total", by=3)
    meter.set("motion_permitted", 1, "reflex")
    meter.observe("reaction_seconds", 0.0002, "input")
    table, dropped = read_answer("reflex", json.loads(json.dumps(meter.answer())))
    assert dropped == 0
    assert table == {
        "robot_beats_total": {(): 3},
        "motion_permitted": {("reflex",): 1},
        "reaction_seconds": {("input",): Buckets(0.0002, (0, 1, *[0] * (BUCKETS - 2)))},
    }


def test_remote_cannot_speak_for_reflex() -> None:
    table, dropped = read_answer(
        "remote",
        answer(
            motion_permitted=[[["reflex"], 1], [["remote"], 0]],
            robot_beats_total=[[[], 99]],
            input_state=[[["estop"], 1]],
            module_up=[[["reflex"], 1]],
            realtime=[[["reflex", "fifo"], 1], [["remote", "fifo"], 1]],
        ),
    )
    assert table == {"motion_permitted": {("remote",): 0}, "realtime": {("remote", "fifo"): 1}}
    assert dropped == 5


@pytest.mark.parametrize(
    "row",
    [
        None,
        [],
        [["reflex"]],
        [["reflex"], 1, 2],
        [["reflex", "x"], 1],
        [[], 1],
        ["reflex", 1],
        [{"channel": "reflex"}, 1],
        [[7], 1],
        [["reflex"], True],
        [["reflex"], "1"],
        [["reflex"], None],
        [["reflex"], [1]],
        [["reflex"], float("nan")],
        [["reflex"], float("inf")],
        [["x" * (MAX_LABEL_CHARS + 1)], 1],
    ],
)
def test_a_row_of_the_wrong_shape_is_dropped_and_its_neighbours_stay(row: object) -> None:
    table, dropped = read_answer("reflex", answer(epoch=[row, [["reflex"], 4]]))
    assert (table, dropped) == ({"epoch": {("reflex",): 4}}, 1)


@pytest.mark.parametrize(
    "value",
    [
        1,
        [],
        [1.0],
        [1.0, [0] * (BUCKETS - 1)],
        [1.0, [0] * (BUCKETS + 1)],
        [-1.0, [0] * BUCKETS],
        [True, [0] * BUCKETS],
        ["1", [0] * BUCKETS],
        [float("inf"), [0] * BUCKETS],
        [1.0, "0" * BUCKETS],
        [1.0, [-1, *[0] * (BUCKETS - 1)]],
        [1.0, [0.5, *[0] * (BUCKETS - 1)]],
        [1.0, [True, *[0] * (BUCKETS - 1)]],
    ],
)
def test_a_histogram_of_the_wrong_shape_is_dropped(value: object) -> None:
    assert read_answer("reflex", answer(reaction_seconds=[[["input"], value]])) == (
        {"reaction_seconds": {}},
        1,
    )


def test_a_counter_below_zero_is_dropped() -> None:
    assert read_answer("reflex", answer(robot_beats_total=[[[], -1]])) == ({"robot_beats_total": {}}, 1)


@pytest.mark.parametrize("message", [{}, {"data": []}, {"data": None}, {"data": "x"}])
def test_an_answer_without_metrics_is_one_bad_thing(message: dict[str, object]) -> None:
    assert read_answer("reflex", message) == ({}, 1)


def test_unknown_metrics_and_series_that_are_no_list_are_dropped() -> None:
    assert read_answer("reflex", answer(robot_mood=[], epoch={}, warden_epoch=[])) == ({}, 3)


def test_a_flood_of_series_is_cut() -> None:
    table, dropped = read_answer("remote", answer(bad_input_total=[[[str(i)], 1] for i in range(5000)]))
    assert len(table["bad_input_total"]) == MAX_SERIES + 1
    assert dropped == 5000 - MAX_SERIES - 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*BY_NAME, "x"]), inner, max_size=4)
    ),
    max_leaves=30,
)


@given(JSON)
def test_whatever_is_answered_can_be_shown(metrics: object) -> None:
    table, _ = read_answer("reflex", {"type": "metrics", "data": metrics})
    list(families(merge({}, [Report(up=True, table=table)])))


def test_counters_and_histograms_add_up_and_gauges_are_taken() -> None:
    own: Table = {
        "log_lost_total": {("safety",): 1},
        "epoch": {("reflex",): 0, ("remote",): 0},
        "reaction_seconds": {("input",): Buckets(0.0, (0,) * BUCKETS)},
    }
    first: Table = {
        "log_lost_total": {("safety",): 2, ("net",): 5},
        "epoch": {("reflex",): 7},
        "reaction_seconds": {("input",): Buckets(0.5, (1, *[0] * (BUCKETS - 1)))},
    }
    second: Table = {
        "log_lost_total": {("safety",): 4},
        "reaction_seconds": {("input",): Buckets(0.25, (1, 1, *[0] * (BUCKETS - 2)))},
    }
    assert merge(own, [Report(up=True, table=first), Report(up=True, table=second)]) == {
        "log_lost_total": {("safety",): 7, ("net",): 5},
        "epoch": {("reflex",): 7, ("remote",): 0},
        "reaction_seconds": {("input",): Buckets(0.75, (2, 1, *[0] * (BUCKETS - 2)))},
    }
    assert own["log_lost_total"] == {("safety",): 1}  # a scrape changes nothing


def test_a_module_that_is_down_keeps_its_counts_and_permits_nothing() -> None:
    table: Table = {
        "motion_permitted": {("reflex",): 1},
        "power_permitted": {("reflex",): 1},
        "input_state": {("estop",): 1},
        "epoch": {("reflex",): 7},
        "robot_beats_total": {(): 12},
    }
    assert merge({}, [Report(up=True, table=table)]) == table
    assert merge({}, [Report(up=False, table=table)]) == {
        "motion_permitted": {("reflex",): 0},
        "power_permitted": {("reflex",): 0},
        "input_state": {("estop",): -1},
        "epoch": {("reflex",): 7},
        "robot_beats_total": {(): 12},
    }


def test_families_come_in_the_tables_order_with_cumulative_buckets() -> None:
    meter = Meter()
    for metric in reversed(METRICS):
        meter.preset(metric.name, *("x" for _ in metric.labels))
    for seconds in (0.00005, 0.0002, 0.7, 3.0):
        meter.observe("reaction_seconds", seconds, "x")
    shown = {family.name: family for family in families(read_own(meter.snapshot()))}
    assert list(shown) == ["warden_" + metric.name.removesuffix("_total") for metric in METRICS]
    samples = [(sample.labels.get("le"), sample.value) for sample in shown["warden_reaction_seconds"].samples]
    assert samples[:3] == [("0.0001", 1.0), ("0.00025", 2.0), ("0.0005", 2.0)]
    assert samples[-4:-1] == [("1.0", 3.0), ("+Inf", 4.0), (None, 4.0)]
    assert samples[-1][1] == pytest.approx(3.70025)


def test_a_metric_without_series_is_not_shown() -> None:
    assert list(families({"host_temperature_celsius": {}})) == []
