"""What the state machine promises in its docstring, one example each; test_machine_sweep.py has them all."""

from dataclasses import replace

import pytest

from agent.core.causes import MS, PEER_STOP, Clear
from agent.core.machine import (
    ACK_WINDOW_NS,
    Cause,
    Demand,
    Outcome,
    State,
)
from agent.core.responses import Response
from tests.core.factories import (
    BEFORE,
    FRESH,
    NOW_NS,
    cause,
    inputs,
    row,
    rows,
    stopped,
    take,
    true,
)

TTL_NS = 100 * MS
RUNNING = State(7, BEFORE)
HOLD, SAFE_MODE, EMERGENCY_STOP = Response.HOLD, Response.SAFE_MODE, Response.EMERGENCY_STOP


# ---- a cause comes


def test_nothing_happens_when_nothing_changes() -> None:
    after, outcome = take(RUNNING)
    assert after is RUNNING
    assert outcome == Outcome()


def test_a_stop_begins() -> None:
    after, outcome = take(RUNNING, inputs({"estop_pressed": Demand(detail="pressed")}))
    assert outcome == Outcome(changed=True, rose=True, raised=("estop_pressed",))
    assert after == State(
        epoch=8,
        half=FRESH,
        response=EMERGENCY_STOP,
        causes=(
            Cause(
                "estop_pressed",
                EMERGENCY_STOP,
                Clear.RESET_AND_RESUME,
                active=True,
                since_ns=NOW_NS,
                detail="pressed",
            ),
        ),
        stopped_ns=NOW_NS,
        power_limit_ns=0,
    )


def test_a_stop_that_lasts_changes_nothing_more() -> None:
    state, _ = take(RUNNING, inputs(true("estop_pressed")))
    again, outcome = take(state, inputs({"estop_pressed": Demand(detail="other words")}), now_ns=NOW_NS + 1)
    assert again is state
    assert not outcome.changed


def test_a_warning_stops_nothing_and_counts_no_epoch() -> None:
    after, outcome = take(RUNNING, inputs(true("clock_jump")))
    assert outcome == Outcome(changed=True, raised=("clock_jump",))
    assert (after.response, after.epoch, after.half) == (Response.WARN, 7, FRESH)
    assert (after.stopped_ns, after.power_limit_ns) == (0, None)


def test_the_worst_cause_is_the_response_and_the_first_stays_first() -> None:
    state, _ = take(RUNNING, inputs(true("guardian_hold")))
    state, outcome = take(state, inputs(true("over_speed", "guardian_hold")), now_ns=NOW_NS + 1)
    assert [c.key for c in state.causes] == ["guardian_hold", "over_speed"]
    assert (state.response, state.epoch) == (SAFE_MODE, 9)
    assert outcome == Outcome(changed=True, rose=True, raised=("over_speed",))
    assert state.stopped_ns == NOW_NS


def test_a_second_stop_of_the_same_strength_counts_no_epoch_but_ends_the_challenge() -> None:
    state = stopped(cause("guardian_stop"))
    after, outcome = take(state, inputs(true("robot_gone")))
    assert (after.epoch, after.half, outcome.rose) == (7, FRESH, False)
    assert outcome.changed


def test_a_cause_with_no_row_is_an_emergency_stop() -> None:
    after, _ = take(RUNNING, inputs(true("meteor")))
    assert after.causes[0].response == EMERGENCY_STOP
    assert after.causes[0].clear == Clear.RESET_AND_RESUME


def test_a_demand_may_choose_response_and_clear() -> None:
    chosen = Demand(HOLD, Clear.AUTO)
    after, _ = take(RUNNING, inputs({PEER_STOP: chosen}))
    assert (after.causes[0].response, after.causes[0].clear) == (HOLD, Clear.AUTO)


@pytest.mark.parametrize("active", [True, False])
def test_a_cause_grows_worse_and_never_better_while_it_lasts(active: bool) -> None:
    state = stopped(cause("guardian_stop", response=SAFE_MODE, active=active))
    worse, outcome = take(state, inputs({"guardian_stop": Demand(EMERGENCY_STOP, Clear.RESET_AND_RESUME)}))
    assert (worse.response, worse.epoch, outcome.rose, outcome.changed) == (EMERGENCY_STOP, 8, True, True)
    assert worse.causes[0].clear == Clear.RESET_AND_RESUME
    same, _ = take(worse, inputs({"guardian_stop": Demand(HOLD, Clear.AUTO)}))
    assert same is worse


def test_a_cause_may_become_harder_to_clear_and_no_worse() -> None:
    state = stopped(cause("guardian_stop", active=True, gone_ns=0))
    after, outcome = take(state, inputs({"guardian_stop": Demand(clear=Clear.RESET_AND_RESUME)}))
    assert after.causes[0] == replace(state.causes[0], clear=Clear.RESET_AND_RESUME)
    assert (outcome.changed, outcome.rose, after.half) == (True, False, FRESH)


@pytest.mark.parametrize("active", [True, False])
def test_a_demand_without_strength_means_its_row_whatever_the_cause_was_before(active: bool) -> None:
    """A guardian's safe mode, then one who says no more than stop: that is an emergency stop."""
    state = stopped(cause("guardian_stop", response=SAFE_MODE, clear=Clear.AUTO, active=active))
    after, outcome = take(state, inputs(true("guardian_stop")))
    assert (after.response, after.causes[0].clear) == (EMERGENCY_STOP, Clear.RESUME)
    assert outcome.rose


def test_a_cause_that_comes_again_keeps_its_place_and_its_first_time() -> None:
    gone = cause("over_speed", response=SAFE_MODE, since_ns=NOW_NS - 5, gone_ns=NOW_NS - 2, detail="1.4")
    state = stopped(gone, cause("guardian_hold", response=HOLD))
    after, outcome = take(state, inputs(true("over_speed")))
    assert after.causes[0] == replace(gone, active=True, gone_ns=0)
    assert outcome == Outcome(changed=True, rose=False, raised=("over_speed",))


def test_the_newest_words_about_a_cause_are_kept() -> None:
    state = stopped(cause("guardian_stop", detail="first"))
    after, _ = take(state, inputs({"guardian_stop": Demand(detail="second")}))
    assert after.causes[0].detail == "second"


# ---- a condition goes


def test_a_condition_goes_and_its_cause_stays() -> None:
    state = stopped(cause("estop_pressed", clear=Clear.RESET_AND_RESUME, active=True, gone_ns=0))
    after, outcome = take(state, now_ns=NOW_NS + 5)
    assert outcome == Outcome(changed=True, gone=("estop_pressed",))
    assert after.causes[0] == replace(state.causes[0], active=False, gone_ns=NOW_NS + 5)
    assert (after.response, after.epoch, after.half) == (EMERGENCY_STOP, 7, FRESH)


def test_what_is_unknown_stays_true() -> None:
    state = stopped(cause("too_close", response=HOLD, clear=Clear.AUTO, active=True, gone_ns=0))
    after, _ = take(state, inputs(unknown=frozenset({"too_close"})), now_ns=NOW_NS + 10**12)
    assert after is state


# ---- a cause ends


def test_an_automatic_cause_ends_when_it_has_been_gone_for_its_hold_off() -> None:
    state = stopped(cause("too_close", response=HOLD, clear=Clear.AUTO))
    before, _ = take(state, now_ns=NOW_NS + 100 * MS - 1)
    assert before is state
    after, outcome = take(state, now_ns=NOW_NS + 100 * MS)
    assert outcome == Outcome(changed=True, cleared=("too_close",))
    assert after == State(7, FRESH)


def test_the_hold_off_begins_anew_each_time() -> None:
    state = stopped(cause("too_close", response=HOLD, clear=Clear.AUTO))
    state, _ = take(state, inputs(true("too_close")), now_ns=NOW_NS + 90 * MS)
    state, _ = take(state, now_ns=NOW_NS + 95 * MS)
    state, _ = take(state, now_ns=NOW_NS + 194 * MS)
    assert state.response == HOLD
    state, _ = take(state, now_ns=NOW_NS + 195 * MS)
    assert state.response == Response.NONE


def test_nothing_starts_by_itself_while_nothing_is_known() -> None:
    state = stopped(cause("too_close", response=HOLD, clear=Clear.AUTO))
    after, _ = take(state, inputs(unknown=frozenset({"too_close"})), now_ns=NOW_NS + 10**12)
    assert after is state


def test_a_resume_ends_what_waits_for_one() -> None:
    state = stopped(cause("guardian_stop"), cause("robot_gone"))
    after, outcome = take(state, inputs(granted=True))
    assert outcome == Outcome(changed=True, cleared=("guardian_stop", "robot_gone"))
    assert after == State(7, FRESH)


def test_without_a_resume_it_waits() -> None:
    state = stopped(cause("guardian_stop"))
    after, _ = take(state, now_ns=NOW_NS + 10**15)
    assert after is state


@pytest.mark.parametrize("clear", Clear)
def test_a_resume_ends_no_cause_whose_condition_is_there(clear: Clear) -> None:
    state = stopped(cause("estop_pressed", clear=clear, active=True, gone_ns=0))
    after, outcome = take(state, inputs({"estop_pressed": Demand(clear=clear)}, granted=True))
    assert after.causes == state.causes
    assert outcome.cleared == ()
    assert after.half == FRESH


def test_a_resume_in_the_turn_in_which_the_condition_goes_ends_the_cause() -> None:
    state = stopped(cause("robot_gone", active=True, gone_ns=0))
    after, outcome = take(state, inputs(granted=True))
    assert (outcome.gone, outcome.cleared) == (("robot_gone",), ("robot_gone",))
    assert after.response == Response.NONE


def test_a_device_that_wants_its_reset_is_not_ended_by_a_resume() -> None:
    state = stopped(cause("input_fault:estop", clear=Clear.RESET_AND_RESUME))
    waiting, outcome = take(state, inputs(granted=True, unreset=frozenset({"input_fault:estop"})))
    assert waiting.causes == state.causes
    assert outcome.cleared == ()
    after, _ = take(state, inputs(granted=True, unreset=frozenset({"input_fault:other"})))
    assert after.response == Response.NONE


def test_a_reset_matters_only_to_what_asks_for_one() -> None:
    state = stopped(cause("guardian_stop"))
    after, _ = take(state, inputs(granted=True, unreset=frozenset({"guardian_stop"})))
    assert after.response == Response.NONE


def test_nothing_leaves_a_stop_before_it_is_on_the_disk() -> None:
    state = stopped(cause("guardian_stop"), epoch=7)
    kept, outcome = take(state, inputs(granted=True, durable_epoch=6))
    assert kept.causes == state.causes
    assert outcome.cleared == ()
    after, _ = take(state, inputs(granted=True, durable_epoch=7))
    assert after.response == Response.NONE


def test_a_warning_ends_whatever_the_disk_does() -> None:
    state = stopped(cause("clock_jump", response=Response.WARN, clear=Clear.AUTO))
    after, _ = take(state, inputs(durable_epoch=0))
    assert after.causes == ()


def test_one_cause_ends_and_the_other_holds() -> None:
    state = stopped(
        cause("robot_gone"), cause("guardian_hold", response=HOLD, active=True, gone_ns=0), power_limit_ns=0
    )
    after, outcome = take(state, inputs(true("guardian_hold"), granted=True))
    assert outcome.cleared == ("robot_gone",)
    assert (after.response, after.epoch, after.stopped_ns) == (HOLD, 7, NOW_NS)
    assert after.power_limit_ns == 0


def test_rising_again_inside_a_stop_is_a_stop_of_its_own() -> None:
    state = stopped(cause("guardian_hold", response=HOLD), power_limit_ns=0)
    after, outcome = take(state, inputs(true("robot_gone")))
    assert (after.response, after.epoch, outcome.rose) == (EMERGENCY_STOP, 8, True)


def test_a_stop_that_takes_the_place_of_another_in_one_turn_leaves_no_gap() -> None:
    state = stopped(cause("guardian_stop"))
    after, outcome = take(state, inputs(true("robot_gone"), granted=True))
    assert outcome == Outcome(changed=True, raised=("robot_gone",), cleared=("guardian_stop",))
    assert (after.response, after.stopped_ns, after.power_limit_ns) == (EMERGENCY_STOP, NOW_NS, 0)


# ---- the other channel's stop


def peer_stop(**changes: object) -> Cause:
    return cause(PEER_STOP, **changes)


def test_a_resume_covers_the_other_channel_s_stop_for_a_while() -> None:
    state = stopped(peer_stop(active=True, gone_ns=0))
    acked, outcome = take(state, inputs(true(PEER_STOP), granted=True))
    assert acked.causes[0].acked_until_ns == NOW_NS + ACK_WINDOW_NS
    assert not outcome.changed
    assert acked.half == FRESH
    after, outcome = take(acked, now_ns=NOW_NS + ACK_WINDOW_NS - 1)
    assert outcome == Outcome(changed=True, gone=(PEER_STOP,), cleared=(PEER_STOP,))
    assert after.response == Response.NONE


def test_after_that_while_it_waits_for_the_next_resume() -> None:
    state = stopped(peer_stop(active=True, gone_ns=0, acked_until_ns=NOW_NS))
    late, outcome = take(state)
    assert outcome == Outcome(changed=True, gone=(PEER_STOP,))
    assert late.causes == (peer_stop(),)
    assert late.response == EMERGENCY_STOP


def test_the_end_of_the_while_is_no_change_that_people_see() -> None:
    state = stopped(peer_stop(active=True, gone_ns=0, acked_until_ns=NOW_NS))
    after, outcome = take(state, inputs(true(PEER_STOP)))
    assert after == replace(state, causes=(peer_stop(active=True, gone_ns=0),))
    assert outcome == Outcome()


def test_no_other_cause_is_covered_ahead_of_time() -> None:
    state = stopped(cause("robot_gone", active=True, gone_ns=0))
    granted, _ = take(state, inputs(true("robot_gone"), granted=True))
    after, _ = take(granted)
    assert after.response == EMERGENCY_STOP


@pytest.mark.parametrize(
    "came",
    [
        {"too_close": Demand(), PEER_STOP: Demand()},
        {PEER_STOP: Demand(Response.SUSPEND)},
    ],
    ids=["another", "worse"],
)
def test_a_resume_does_not_cover_a_stop_that_came_after(came: dict[str, Demand]) -> None:
    state = stopped(peer_stop(active=True, gone_ns=0, acked_until_ns=NOW_NS + ACK_WINDOW_NS))
    after, _ = take(state, inputs(came))
    assert after.causes[0].acked_until_ns == 0


@pytest.mark.parametrize(
    "came",
    [{PEER_STOP: Demand(HOLD)}, {PEER_STOP: Demand(clear=Clear.RESET_AND_RESUME)}],
    ids=["milder", "harder to clear"],
)
def test_a_resume_still_covers_a_stop_that_did_not_grow(came: dict[str, Demand]) -> None:
    state = stopped(peer_stop(active=True, gone_ns=0, acked_until_ns=NOW_NS + ACK_WINDOW_NS))
    after, outcome = take(state, inputs(came))
    assert outcome.changed
    assert after.causes[0].acked_until_ns == NOW_NS + ACK_WINDOW_NS


@pytest.mark.parametrize("active", [True, False])
def test_a_mirrored_stop_is_as_bad_as_the_other_channel_says_now(active: bool) -> None:
    """And power that it took away stays away."""
    state = stopped(peer_stop(active=active, gone_ns=0))
    after, outcome = take(state, inputs({PEER_STOP: Demand(HOLD, Clear.AUTO)}))
    assert (after.response, after.power_limit_ns, after.epoch) == (HOLD, 0, 7)
    assert after.causes[0].clear == Clear.RESUME
    assert (outcome.changed, outcome.rose) == (True, False)


def test_a_warning_that_came_after_does_not_undo_a_resume() -> None:
    state = stopped(peer_stop(active=True, gone_ns=0, acked_until_ns=NOW_NS + ACK_WINDOW_NS))
    after, _ = take(state, inputs(true("clock_jump", PEER_STOP)))
    assert after.causes[0].acked_until_ns == NOW_NS + ACK_WINDOW_NS


# ---- the challenge


@pytest.mark.parametrize("answer", ["granted", "refused"])
def test_every_answer_to_a_resume_ends_the_challenge(answer: str) -> None:
    state = stopped(cause("input_fault:estop", clear=Clear.RESET_AND_RESUME))
    given = inputs(unreset=frozenset({"input_fault:estop"}), **{answer: True})
    after, outcome = take(state, given)
    assert after == replace(state, half=FRESH)
    assert not outcome.changed


def test_rows_with_another_hold_off_are_honoured() -> None:
    table = rows(row("slow", HOLD, Clear.AUTO, hold_off_ms=5000))
    state = stopped(cause("slow:left", response=HOLD, clear=Clear.AUTO))
    assert take(state, now_ns=NOW_NS + 4999 * MS, table=table)[0].response == HOLD
    assert take(state, now_ns=NOW_NS + 5000 * MS, table=table)[0].response == Response.NONE
