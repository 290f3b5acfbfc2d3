"""What a channel makes of the other: its stop, its silence, its end; and how little its word counts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.causes import MS, PEER_STOP, Clear
from agent.core.machine import Demand
from agent.core.peer import UNHEARD, PeerView, mirrored_clear, watch_peer
from agent.core.responses import Response
from tests.core.factories import NOW_NS, TIMES, but, row, rows

TABLE = rows(row("too_close", Response.HOLD, Clear.AUTO), row("bumper", Response.SAFE_MODE, Clear.RESUME))
STARTED_NS = NOW_NS - 60_000 * MS


def heard(**changes: object) -> PeerView:
    return but(PeerView(connected=True, heard_ns=NOW_NS, response=Response.NONE), changes)


def demands(peer: PeerView, *, now_ns: int = NOW_NS, started_ns: int = STARTED_NS) -> dict[str, Demand]:
    return dict(watch_peer(TABLE, TIMES, started_ns, peer, now_ns))


def test_an_other_that_runs_and_beats_demands_nothing() -> None:
    assert demands(heard()) == {}


def test_of_one_never_heard_nothing_good_is_believed() -> None:
    assert (
        PeerView(
            connected=False,
            heard_ns=0,
            own=Response.NONE,
            response=Response.EMERGENCY_STOP,
            causes=(),
            epoch=0,
            half=b"",
            still=False,
            blockers=(),
        )
        == UNHEARD
    )


def test_one_never_heard_is_waited_for_during_the_grace_and_lost_after_it() -> None:
    end_ns = NOW_NS + TIMES.start_grace_ns
    waiting = {"starting": Demand(detail="waiting for the other module")}
    assert demands(UNHEARD, started_ns=NOW_NS) == waiting
    assert demands(UNHEARD, started_ns=NOW_NS, now_ns=end_ns - 1) == waiting
    assert demands(UNHEARD, started_ns=NOW_NS, now_ns=end_ns) == {
        "peer_lost": Demand(detail="connection ended")
    }


def test_one_that_was_heard_is_lost_at_once_also_during_the_grace() -> None:
    assert "peer_lost" in demands(heard().lost(), started_ns=NOW_NS)


def test_the_end_of_its_connection_is_its_loss() -> None:
    assert demands(heard().lost()) == {"peer_lost": Demand(detail="connection ended")}


def test_its_silence_is_its_loss_when_its_permit_has_run_out() -> None:
    end_ns = NOW_NS + TIMES.peer_timeout_ns
    assert demands(heard(), now_ns=end_ns) == {}
    assert demands(heard(), now_ns=end_ns + 1) == {"peer_lost": Demand(detail="no beat")}


def test_a_beat_is_a_sign_of_life_and_says_whether_the_robot_stands() -> None:
    later_ns = NOW_NS + TIMES.peer_timeout_ns + 1
    beaten = heard().beaten(later_ns, still=True)
    assert demands(beaten, now_ns=later_ns) == {}
    assert beaten.still
    assert not beaten.beaten(later_ns, still=False).still


def test_beats_alone_are_no_word_of_how_it_stands() -> None:
    assert "peer_lost" in demands(UNHEARD.beaten(NOW_NS, still=True))


@pytest.mark.parametrize("own", Response)
def test_its_stops_are_mirrored_at_their_strength_and_nothing_less_is(own: Response) -> None:
    found = demands(heard(own=own, response=Response.RETIRE, causes=("bumper", "guardian_hold")))
    if own.stops:
        assert found == {PEER_STOP: Demand(own, Clear.RESUME, "bumper, guardian_hold")}
    else:
        assert found == {}


def test_what_it_only_mirrors_is_not_mirrored_back() -> None:
    assert demands(heard(own=Response.NONE, response=Response.EMERGENCY_STOP)) == {}


def test_its_stop_outlives_its_connection_and_its_word_of_standstill_does_not() -> None:
    lost = heard(own=Response.HOLD, causes=("guardian_hold",), still=True).lost()
    assert demands(lost)[PEER_STOP].response == Response.HOLD
    assert "peer_lost" in demands(lost)
    assert not lost.still


def test_what_people_are_told_of_its_causes_is_bounded() -> None:
    found = demands(heard(own=Response.HOLD, causes=tuple(f"cause_{n}" for n in range(100))))
    assert len(found[PEER_STOP].detail) == 120


@pytest.mark.parametrize(
    ("causes", "clear"),
    [
        (("too_close",), Clear.AUTO),
        (("too_close", "clock_jump"), Clear.AUTO),
        (("too_close:left",), Clear.AUTO),
        (("too_close", "bumper"), Clear.RESUME),
        (("bumper",), Clear.RESUME),
        (("suspended",), Clear.RESUME),
        (("retired",), Clear.RESUME),
        (("no_such_cause",), Clear.RESUME),
        (("",), Clear.RESUME),
        ((), Clear.RESUME),
    ],
)
def test_a_mirrored_stop_ends_by_itself_only_where_this_channel_s_own_table_says_so(
    causes: tuple[str, ...], clear: Clear
) -> None:
    assert mirrored_clear(TABLE, causes) == clear


@given(st.lists(st.sampled_from([*TABLE, "invented", "too_close:x", PEER_STOP])))
@settings(derandomize=True, max_examples=200)
def test_no_list_of_causes_makes_a_stop_weaker_than_its_worst_cause_here(causes: list[str]) -> None:
    automatic = {"too_close", "too_close:x", "clock_jump"}
    ends_by_itself = bool(causes) and set(causes) <= automatic
    assert mirrored_clear(TABLE, causes) == (Clear.AUTO if ends_by_itself else Clear.RESUME)
