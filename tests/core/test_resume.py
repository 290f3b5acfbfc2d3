"""What a resume must name and carry, and what stands before one (DESIGN, principle 3)."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.causes import PEER_STOP, Clear
from agent.core.commands import Code
from agent.core.machine import Cause, State
from agent.core.responses import Response
from agent.core.resume import (
    CHALLENGE_BYTES,
    HALF_BYTES,
    HALVES,
    ResumeRequest,
    blockers,
    challenge_fits,
    refusal,
    stopped_since,
)
from tests.core.factories import BEFORE, FRESH, NOW_NS, cause, stopped

NOTHING: frozenset[str] = frozenset()
REFLEX, REMOTE = BEFORE, FRESH
CHALLENGE = REFLEX + REMOTE
ROBOT_EPOCH = 12


def judge(
    state: State,
    *,
    channel: str = "reflex",
    epoch: int = ROBOT_EPOCH,
    challenge: bytes = CHALLENGE,
    unreset: frozenset[str] = NOTHING,
) -> Code | None:
    request = ResumeRequest(epoch, challenge)
    return refusal(channel, state, request, robot_epoch=ROBOT_EPOCH, unreset=unreset)


def test_a_resume_in_order_is_taken() -> None:
    assert judge(stopped(cause("guardian_stop"))) is None


def test_the_two_halves_make_the_challenge() -> None:
    assert set(HALVES) == {"reflex", "remote"}
    assert (CHALLENGE[HALVES["reflex"]], CHALLENGE[HALVES["remote"]]) == (REFLEX, REMOTE)
    assert len(CHALLENGE) == CHALLENGE_BYTES == 2 * HALF_BYTES == 16


@pytest.mark.parametrize("channel", HALVES)
def test_each_channel_checks_its_own_half(channel: str) -> None:
    own = REFLEX if channel == "reflex" else REMOTE
    state = replace(stopped(cause("guardian_stop")), half=own)
    assert judge(state, channel=channel) is None
    assert judge(state, channel=channel, challenge=REMOTE + REFLEX) == Code.STALE_CHALLENGE


@given(st.binary(max_size=20))
@settings(derandomize=True, max_examples=200)
def test_only_the_present_half_at_its_place_fits(challenge: bytes) -> None:
    state = stopped(cause("guardian_stop"))
    fits = len(challenge) == CHALLENGE_BYTES and challenge.startswith(REFLEX)
    assert challenge_fits("reflex", state, challenge) == fits
    assert challenge_fits("reflex", state, REFLEX + challenge) == (len(challenge) == HALF_BYTES)


@pytest.mark.parametrize("epoch", [ROBOT_EPOCH - 1, ROBOT_EPOCH + 1, 0])
def test_a_resume_names_the_stop_that_it_ends(epoch: int) -> None:
    assert judge(stopped(cause("guardian_stop")), epoch=epoch) == Code.WRONG_EPOCH


def test_a_robot_that_runs_has_nothing_to_resume() -> None:
    assert judge(State(7, REFLEX)) == Code.NOT_STOPPED
    assert judge(stopped(cause("clock_jump", response=Response.WARN))) == Code.NOT_STOPPED


def test_a_channel_that_runs_lets_the_stop_of_the_other_end() -> None:
    """Else a stop that only one of them still mirrors could never be ended."""
    runs = State(7, REFLEX)
    request = ResumeRequest(ROBOT_EPOCH, CHALLENGE)
    names: dict[str, Any] = {"robot_epoch": ROBOT_EPOCH, "unreset": NOTHING, "peer_stops": True}
    assert refusal("reflex", runs, request, **names) is None
    assert refusal("reflex", runs, replace(request, epoch=0), **names) == Code.WRONG_EPOCH
    assert refusal("reflex", runs, replace(request, challenge=b""), **names) == Code.STALE_CHALLENGE


ACTIVE = cause("estop_pressed", active=True, gone_ns=0)
MAINTENANCE = cause("maintenance", active=True, gone_ns=0)
SUSPENDED = cause("suspended", response=Response.SUSPEND, clear=Clear.REEVALUATION)
RETIRED = cause("retired", response=Response.RETIRE, clear=Clear.NEVER)
UNRESET = cause("input_fault:estop", clear=Clear.RESET_AND_RESUME)
UNRESET_KEYS = frozenset({"input_fault:estop"})

each_blocker = pytest.mark.parametrize(
    ("what", "code"),
    [
        (ACTIVE, Code.CAUSE_ACTIVE),
        (MAINTENANCE, Code.IN_MAINTENANCE),
        (SUSPENDED, Code.REEVALUATION_NEEDED),
        (RETIRED, Code.RETIRED),
        (UNRESET, Code.RESET_NEEDED),
    ],
    ids=lambda value: value.key if isinstance(value, Cause) else "",
)


@each_blocker
def test_each_thing_that_stands_before_a_resume_has_its_code(what: Cause, code: Code) -> None:
    state = stopped(cause("guardian_stop"), what)
    assert blockers(state, UNRESET_KEYS) == (code,)
    assert judge(state, unreset=UNRESET_KEYS) == code


@each_blocker
def test_epoch_and_challenge_are_asked_first_except_of_a_retired_robot(what: Cause, code: Code) -> None:
    """Who cannot name the stop is not told what stands before its end; retired is retired."""
    state = stopped(what)
    expected = Code.RETIRED if code == Code.RETIRED else Code.WRONG_EPOCH
    assert judge(state, epoch=0, challenge=b"", unreset=UNRESET_KEYS) == expected
    expected = Code.RETIRED if code == Code.RETIRED else Code.STALE_CHALLENGE
    assert judge(state, challenge=b"", unreset=UNRESET_KEYS) == expected


def test_a_robot_with_a_cause_that_never_ends_is_retired_even_where_it_only_warns() -> None:
    assert judge(stopped(cause("odd", response=Response.WARN, clear=Clear.NEVER))) == Code.RETIRED


def test_all_that_stands_before_a_resume_is_told_worst_first_and_once() -> None:
    both = replace(UNRESET, key="input_fault:bumper")
    state = stopped(UNRESET, both, ACTIVE, replace(ACTIVE, key="bumper"), MAINTENANCE, SUSPENDED, RETIRED)
    assert blockers(state, UNRESET_KEYS | {"input_fault:bumper"}) == (
        Code.RETIRED,
        Code.REEVALUATION_NEEDED,
        Code.IN_MAINTENANCE,
        Code.CAUSE_ACTIVE,
        Code.RESET_NEEDED,
    )


@pytest.mark.parametrize(
    "what",
    [
        cause("guardian_stop"),
        replace(UNRESET, key="input_fault:bumper"),
        replace(UNRESET, clear=Clear.RESUME),
        cause("estop_pressed", clear=Clear.RESET_AND_RESUME),
        cause("too_close", response=Response.HOLD, clear=Clear.AUTO),
        cause("maintenance"),
        cause(PEER_STOP, active=True, gone_ns=0),
        cause("clock_jump", response=Response.WARN, active=True, gone_ns=0),
        replace(SUSPENDED, clear=Clear.RESUME),
    ],
    ids=lambda c: f"{c.key}-{c.clear.label}",
)
def test_what_does_not_stand_before_a_resume(what: Cause) -> None:
    """Among them the other channel's stop, for which the other channel answers itself."""
    state = stopped(cause("guardian_stop"), what)
    assert blockers(state, UNRESET_KEYS) == ()
    assert judge(state, unreset=UNRESET_KEYS) is None


def test_an_active_suspension_is_named_for_what_ends_it() -> None:
    state = stopped(replace(SUSPENDED, active=True))
    assert blockers(state, NOTHING) == (Code.REEVALUATION_NEEDED,)


def test_a_device_that_wants_its_reset_matters_while_its_condition_is_there_too() -> None:
    state = stopped(replace(UNRESET, active=True))
    assert blockers(state, UNRESET_KEYS) == (Code.CAUSE_ACTIVE,)


@pytest.mark.parametrize(
    ("what", "came"),
    [
        (cause("guardian_stop", gone_ns=NOW_NS + 1), True),
        (cause("guardian_stop", gone_ns=NOW_NS), False),
        (cause("guardian_stop", gone_ns=0, active=True), False),
        (cause("clock_jump", response=Response.WARN, gone_ns=NOW_NS + 1), False),
        (cause(PEER_STOP, gone_ns=NOW_NS + 1), False),
    ],
    ids=["after", "before", "active", "warning", "mirrored"],
)
def test_a_stop_that_came_again_after_a_resume_was_asked_for_is_seen(what: Cause, came: bool) -> None:
    """One that is there still is a blocker; the mirrored stop goes as the other channel resumes."""
    assert stopped_since(stopped(cause("robot_gone", gone_ns=5), what), NOW_NS) == came
