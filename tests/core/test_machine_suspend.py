"""Suspended until the department approves and a guardian resumes; retired for good (clause 5.7(a))."""

from agent.core.causes import Clear
from agent.core.machine import Outcome, State
from agent.core.responses import Response
from tests.core.factories import BEFORE, FRESH, NOW_NS, cause, inputs, stopped, take, true

RUNNING = State(7, BEFORE)
EMERGENCY_STOP = Response.EMERGENCY_STOP


def suspended() -> State:
    return stopped(cause("suspended", response=Response.SUSPEND, clear=Clear.REEVALUATION))


def test_a_resume_does_not_end_a_suspension() -> None:
    after, outcome = take(suspended(), inputs(granted=True))
    assert after.causes == suspended().causes
    assert outcome.cleared == ()


def test_a_re_evaluation_lifts_a_suspension_and_starts_nothing() -> None:
    lifted, outcome = take(suspended(), inputs(lift=frozenset({"suspended"})))
    assert outcome == Outcome(changed=True)
    assert (lifted.response, lifted.epoch, lifted.half) == (EMERGENCY_STOP, 7, FRESH)
    assert lifted.causes == (cause("suspended", response=EMERGENCY_STOP, clear=Clear.RESUME),)
    assert lifted.power_limit_ns == 0
    after, _ = take(lifted, inputs(granted=True))
    assert after == State(7, FRESH)


def test_a_re_evaluation_and_a_resume_in_one_turn_still_start_nothing() -> None:
    lifted, _ = take(suspended(), inputs(lift=frozenset({"suspended"}), granted=True))
    assert lifted.response == EMERGENCY_STOP


def test_a_re_evaluation_lifts_what_it_names_and_only_that() -> None:
    for lift in (frozenset({"retired"}), frozenset({"guardian_stop"})):
        after, _ = take(suspended(), inputs(lift=lift))
        assert after == suspended()
    state = stopped(cause("guardian_stop"))
    assert take(state, inputs(lift=frozenset({"guardian_stop"})))[0] is state


def test_a_suspension_that_is_not_on_the_disk_cannot_be_lifted() -> None:
    after, _ = take(suspended(), inputs(lift=frozenset({"suspended"}), durable_epoch=6))
    assert after == suspended()


def test_a_suspension_after_its_lifting_counts_again() -> None:
    lifted, _ = take(suspended(), inputs(lift=frozenset({"suspended"})))
    again, outcome = take(lifted, inputs(true("suspended")))
    assert (again.response, again.epoch, outcome.rose) == (Response.SUSPEND, 8, True)
    gone, _ = take(again)
    after, _ = take(gone, inputs(granted=True))
    assert after.response == Response.SUSPEND


def test_a_condition_that_only_warns_is_lifted_as_what_it_is() -> None:
    state = stopped(cause("suspended", response=Response.WARN, clear=Clear.REEVALUATION))
    after, _ = take(state, inputs(lift=frozenset({"suspended"})))
    assert after.response == Response.WARN


def test_retire_is_final() -> None:
    state, _ = take(RUNNING, inputs(true("retired")))
    everything = inputs(
        granted=True, lift=frozenset({"retired", "suspended"}), unreset=frozenset(), durable_epoch=1 << 31
    )
    for later in range(1, 4):
        state, _ = take(state, everything, now_ns=NOW_NS + later * 10**12)
        assert state.response == Response.RETIRE
        assert state.power_limit_ns == 0
