"""The table of causes is complete, and no built-in ends a stop by itself."""

import re

import pytest

from agent.core.causes import (
    BUILT_INS,
    EVENTS,
    FIXED_CLEAR,
    PEER_STOP,
    RISKS,
    BuiltIn,
    CauseRow,
    Clear,
    built_in_rows,
    floors,
    row_id,
    row_of,
    subject,
)
from agent.core.responses import Response

PROTOCOL_8 = frozenset(
    {
        *("starting", "input_stale", "input_fault", "robot_gone", "robot_hung", "not_still"),
        *("peer_lost", "peer_stop", "recorder_lost", "log_space", "link_lost", "guardian_absent"),
        *("out_of_area", "out_of_hours", "over_speed", "telemetry_stale", "task_not_authorised"),
        *("unlawful_content", "tampered", "host_unwell", "clock_jump", "suspended_host"),
        *("guardian_stop", "guardian_hold", "maintenance", "suspended", "retired"),
    }
)
"""The built-in causes as PROTOCOL 8 lists them."""
OURS = frozenset({"output_fault"})
"""What two channels that read their outputs back need beside them (PROTOCOL 4)."""

each_built_in = pytest.mark.parametrize("built_in", BUILT_INS, ids=lambda b: b.id)
each_risk = pytest.mark.parametrize("risk", RISKS)


def test_every_built_in_of_the_protocol_has_one_row_and_no_other_has() -> None:
    ids = [built_in.id for built_in in BUILT_INS]
    assert len(ids) == len(set(ids))
    assert set(ids) == PROTOCOL_8 | OURS


@each_built_in
def test_no_floor_is_above_its_response(built_in: BuiltIn) -> None:
    assert len(built_in.response) == len(built_in.floor) == len(RISKS)
    assert all(f <= r for f, r in zip(built_in.floor, built_in.response, strict=True))


@each_built_in
def test_a_higher_risk_is_never_answered_more_weakly(built_in: BuiltIn) -> None:
    assert list(built_in.response) == sorted(built_in.response, reverse=True)
    assert list(built_in.floor) == sorted(built_in.floor, reverse=True)


@each_built_in
def test_a_floor_is_at_least_a_warning(built_in: BuiltIn) -> None:
    assert min(built_in.floor) >= Response.WARN


@each_built_in
def test_people_are_told_in_both_languages(built_in: BuiltIn) -> None:
    assert re.search(r"[\u4e00-\u9fff]", built_in.zh)
    assert built_in.en.isascii()
    assert built_in.en[0].isupper()


@each_built_in
def test_no_built_in_that_stops_ends_by_itself(built_in: BuiltIn) -> None:
    if any(response.stops for response in built_in.response):
        assert built_in.clear != Clear.AUTO
    else:
        assert built_in.id == "clock_jump"


def test_only_the_law_s_two_rows_want_more_than_a_resume() -> None:
    beyond = {b.id: b.clear for b in BUILT_INS if b.clear > Clear.RESET_AND_RESUME}
    assert beyond == {"suspended": Clear.REEVALUATION, "retired": Clear.NEVER}


def test_what_no_plan_may_change_are_rows_of_the_table() -> None:
    assert {"suspended", "retired", "starting", PEER_STOP} == FIXED_CLEAR
    assert FIXED_CLEAR | EVENTS <= PROTOCOL_8


@each_risk
def test_a_start_and_a_restart_wait_for_a_person(risk: str) -> None:
    starting = built_in_rows(risk)["starting"]
    assert starting.clear == Clear.RESUME
    assert floors(risk)["starting"].stops


@each_risk
def test_the_law_s_rows_hold_their_response_in_every_risk_class(risk: str) -> None:
    assert floors(risk)["suspended"] == built_in_rows(risk)["suspended"].response == Response.SUSPEND
    assert floors(risk)["retired"] == built_in_rows(risk)["retired"].response == Response.RETIRE


@each_risk
def test_the_rows_are_those_of_the_risk_class(risk: str) -> None:
    column = RISKS.index(risk)
    table = built_in_rows(risk)
    assert list(table) == list(floors(risk)) == [b.id for b in BUILT_INS]
    for b in BUILT_INS:
        assert table[b.id] == CauseRow(b.id, b.response[column], b.clear, 0, b.zh, b.en)
        assert floors(risk)[b.id] == b.floor[column]


def test_a_risk_class_nobody_knows_is_an_error() -> None:
    with pytest.raises(ValueError, match="not in"):
        built_in_rows("none")


@pytest.mark.parametrize(
    ("key", "row", "about"),
    [
        ("robot_gone", "robot_gone", ""),
        ("input_stale:estop", "input_stale", "estop"),
        ("input_stale:hall:left", "input_stale", "hall:left"),
        ("", "", ""),
    ],
)
def test_a_key_names_its_row_and_what_it_is_about(key: str, row: str, about: str) -> None:
    assert (row_id(key), subject(key)) == (row, about)


def test_a_key_finds_its_row() -> None:
    table = built_in_rows("high")
    assert row_of(table, "input_fault:estop") is table["input_fault"]


def test_a_cause_with_no_row_is_an_emergency_stop_a_person_must_clear_at_the_device() -> None:
    unknown = row_of(built_in_rows("low"), "meteor:hall")
    assert unknown.id == "meteor"
    assert (unknown.response, unknown.clear) == (Response.EMERGENCY_STOP, Clear.RESET_AND_RESUME)
    assert unknown.hold_off_ns == 0
    assert unknown.zh
    assert unknown.en


def test_clear_conditions_are_ordered_by_strictness_and_spelled_as_in_plans() -> None:
    assert [clear.label for clear in sorted(Clear)] == [
        "auto",
        "resume",
        "reset_and_resume",
        "reevaluation",
        "never",
    ]
