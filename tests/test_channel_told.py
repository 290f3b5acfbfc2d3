"""A channel's resumes, and what it records, counts and shows."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.channel import Trigger
from agent.core.causes import MS, Clear
from agent.core.commands import Code
from agent.core.machine import Demand
from agent.core.peer import UNHEARD
from agent.core.responses import Response
from agent.core.resume import ResumeRequest
from tests.channel_lives import Clocks, blocked, run
from tests.channels import Life, disks
from tests.core.factories import NOW_NS, TIMES, but, row, rows, small_plan

TTL_NS = TIMES.ttl_ns
HOLD, EMERGENCY_STOP = Response.HOLD, Response.EMERGENCY_STOP


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    """A channel that has just been made and has not taken a turn yet."""
    with disks():
        one = Life("reflex", small_plan(), tmp_path)
        yield one
        one.channel.close()


@pytest.fixture
def running(life: Life) -> Life:
    return run(life)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    injected = Clocks()
    monkeypatch.setattr("agent.channel.time", injected)
    return injected


# ---- resume


def request(life: Life, peer_epoch: int = 3, **changes: object) -> ResumeRequest:
    right = ResumeRequest(life.channel.state.epoch + peer_epoch, life.channel.state.half + bytes(8))
    return but(right, changes)


PEER = but(UNHEARD, {"connected": True, "epoch": 3, "half": bytes(8)})
RUNNING_PEER = but(PEER, {"response": Response.NONE})


def test_a_resume_that_names_the_stop_and_carries_the_challenge_starts_once(life: Life) -> None:
    life.turn()
    life.turn()
    right = request(life)
    assert life.channel.resume_refusal(right, PEER) is None
    life.channel.grant(NOW_NS)
    assert life.read().motion_until_ns == NOW_NS + TTL_NS
    assert life.channel.resume_refusal(right, RUNNING_PEER) is Code.NOT_STOPPED
    # The other channel may still need its part of a resume, and this half is used up.
    assert life.channel.resume_refusal(right, PEER) is Code.STALE_CHALLENGE
    life.turn(NOW_NS, guardian_stop=Demand())
    life.turn()
    assert life.channel.resume_refusal(right, PEER) is Code.WRONG_EPOCH
    assert life.channel.resume_refusal(but(right, {"epoch": right.epoch + 1}), PEER) is Code.STALE_CHALLENGE


def test_a_refusal_renews_the_challenge_and_nothing_else(life: Life) -> None:
    life.turn()
    life.turn()
    before = life.channel.state
    right = request(life)
    life.channel.refuse(NOW_NS)
    assert life.channel.state == but(before, {"half": life.channel.state.half})
    assert life.channel.resume_refusal(right, PEER) is Code.STALE_CHALLENGE
    assert life.channel.resume_refusal(request(life), PEER) is None


def test_a_grant_lasts_one_turn(running: Life) -> None:
    """What is still active on that turn is not covered by it later."""
    running.turn(NOW_NS, guardian_stop=Demand())
    running.channel.grant(NOW_NS)
    running.turn()
    running.turn()
    assert running.channel.state.response is EMERGENCY_STOP
    assert blocked(running) == []


def test_a_suspended_robot_that_is_lifted_stays_stopped_until_a_resume(running: Life) -> None:
    running.turn(NOW_NS, suspended=Demand())
    running.turn()
    assert blocked(running) == [Code.REEVALUATION_NEEDED]
    running.channel.lift("suspended", NOW_NS)
    running.disk.write()
    assert blocked(running) == []
    assert running.read().motion_until_ns == 0
    running.channel.grant(NOW_NS)
    assert running.read().motion_until_ns == NOW_NS + TTL_NS


def test_a_standing_cause_is_true_until_it_is_ended(running: Life) -> None:
    running.channel.stand("maintenance", "刹" * 200, NOW_NS)
    running.disk.write()
    running.turn()
    assert running.channel.standing == {"maintenance": "刹" * 120}
    assert blocked(running) == [Code.IN_MAINTENANCE]
    running.channel.stand("maintenance", None, NOW_NS)
    assert blocked(running) == []
    assert running.read().motion_until_ns == 0


def test_ending_what_does_not_stand_changes_nothing(running: Life) -> None:
    before = running.channel.state
    running.channel.stand("maintenance", None, NOW_NS)
    assert running.channel.state == before


# ---- records, metrics, what people are shown


def test_every_change_is_recorded_once_with_what_it_is_about(running: Life) -> None:
    running.sink.events.clear()
    running.turn(NOW_NS, **{"input_stale:estop": Demand(detail="silent")})
    running.turn()
    about = {"channel": "reflex", "id": "input_stale", "subject": "estop", "response": "emergency_stop"}
    response = {"channel": "reflex", "from": "none", "to": "emergency_stop", "causes": ["input_stale:estop"]}
    assert running.sink.events == [
        ("cause_raised", {**about, "detail": "silent"}),
        ("response", {**response, "epoch": running.read().epoch}),
        ("cause_gone", {**about, "detail": "silent"}),
    ]
    running.sink.events.clear()
    running.channel.grant(NOW_NS)
    kinds = [kind for kind, _ in running.sink.events]
    assert kinds == ["cause_cleared", "response"]
    assert running.sink.events[1][1]["to"] == "none"


def test_a_row_of_the_plan_is_recorded_by_its_own_words(tmp_path: Path) -> None:
    plan = small_plan(rows=rows(row("too_close", HOLD, Clear.AUTO)))
    with disks():
        life = run(Life("reflex", plan, tmp_path))
        life.turn(NOW_NS, too_close=Demand())
        (cause,) = life.channel.causes_view(NOW_NS)
        life.channel.close()
    assert (cause["response"], cause["clear"]) == ("hold", "auto")
    assert cause["text"] == {"zh": "too_close 中文", "en": "too_close in English"}


def test_a_stop_is_counted_by_its_worst_cause(running: Life) -> None:
    running.turn(NOW_NS, guardian_hold=Demand(), **{"input_fault:estop": Demand()})
    assert running.channel._meter.snapshot()["stops_total"] == [
        [["reflex", "starting", "emergency_stop"], 1],
        [["reflex", "input_fault", "emergency_stop"], 1],
    ]


def test_causes_are_shown_oldest_first_with_words_in_two_languages(running: Life, clocks: Clocks) -> None:
    running.turn(clocks.mono_ns, guardian_hold=Demand(detail="看一下"))
    clocks.pass_ns(1000 * MS)
    running.turn(clocks.mono_ns, guardian_hold=Demand(), **{"input_stale:estop": Demand()})
    clocks.pass_ns(500 * MS)
    hold, stale = running.channel.causes_view(clocks.mono_ns)
    assert hold == {
        "id": "guardian_hold",
        "response": "hold",
        "active": True,
        "clear": "resume",
        "since": round(clocks.wall_ns / 1e9 - 1.5, 3),
        "text": {"zh": "监护人下令暂停", "en": "Held by a guardian"},
        "channel": "reflex",
        "subject": "",
        "detail": "看一下",
    }
    assert (stale["id"], stale["subject"]) == ("input_stale", "estop")
    assert stale["since"] == round(clocks.wall_ns / 1e9 - 0.5, 3)
    assert stale["text"] == {"zh": "输入信号中断(estop)", "en": "An input went silent (estop)"}


def test_how_long_it_took_is_observed_only_where_a_stop_began_and_someone_saw_it(
    running: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    observed: list[tuple[object, ...]] = []
    monkeypatch.setattr(running.channel._meter, "observe", lambda *args: observed.append(args))
    seen_ns = time.monotonic_ns()
    running.channel.turn(NOW_NS, Trigger("input", seen_ns))
    running.turn(NOW_NS, guardian_hold=Demand())  # nobody says what woke it
    running.channel.demand("guardian_stop")
    running.channel.turn(NOW_NS, Trigger("command", seen_ns))
    running.channel.demand("guardian_stop")
    running.channel.turn(NOW_NS, Trigger("command", seen_ns))
    ((name, seconds, path),) = observed
    assert (name, path) == ("reaction_seconds", "command")
    assert isinstance(seconds, float)
    assert 0 <= seconds <= (time.monotonic_ns() - seen_ns) / 1e9


def test_its_own_demand_leaves_out_what_it_mirrors(running: Life) -> None:
    running.turn(NOW_NS, peer_stop=Demand(EMERGENCY_STOP))
    assert running.channel.own == Response.NONE
    running.turn(NOW_NS, peer_stop=Demand(EMERGENCY_STOP), guardian_hold=Demand())
    assert running.channel.own == HOLD


def test_what_is_latched_is_known_by_its_keys(running: Life) -> None:
    running.turn(NOW_NS, guardian_hold=Demand(), **{"input_fault:estop": Demand()})
    running.turn(NOW_NS, guardian_hold=Demand())
    assert running.channel.latched_keys == {"guardian_hold", "input_fault:estop"}
