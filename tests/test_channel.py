"""One channel's shell: the order of a trip, the clocks it watches, and what it tells and counts."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent import latch
from agent.channel import CLOCK_STEP_NS, SLEEP_NS, Trigger
from agent.core.causes import MS, Clear
from agent.core.commands import Code
from agent.core.machine import Demand
from agent.core.peer import UNHEARD
from agent.core.responses import Response
from agent.core.resume import ResumeRequest
from tests.channels import Life, disks
from tests.core.factories import NOW_NS, TIMES, but, row, rows, small_plan

TTL_NS, SS1_NS = TIMES.ttl_ns, TIMES.ss1_ns
HOLD, SAFE_MODE, EMERGENCY_STOP = Response.HOLD, Response.SAFE_MODE, Response.EMERGENCY_STOP
SUSPEND, RETIRE = Response.SUSPEND, Response.RETIRE


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    """A channel that has just been made and has not taken a turn yet."""
    with disks():
        one = Life("reflex", small_plan(), tmp_path)
        yield one
        one.channel.close()


def run(life: Life, now_ns: int = NOW_NS) -> Life:
    """The robot runs: started, saved, resumed."""
    life.turn(now_ns)
    life.turn(now_ns)
    life.channel.grant(now_ns)
    life.disk.write()
    assert life.read().motion_until_ns == now_ns + TTL_NS
    return life


@pytest.fixture
def running(life: Life) -> Life:
    return run(life)


class Calls:
    """Whom the channel calls, in order; with an order to the relay, what a robot reads at that moment."""

    def __init__(self, life: Life, patch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.energise: list[bool] = []
        self.permit_then = life.read()
        self._life = life
        for name in ("withdraw", "write"):
            patch.setattr(life.permit, name, self._noting(f"permit.{name}", getattr(life.permit, name)))
        patch.setattr(life.relay, "order", self._order)
        for name in ("_tell_peer", "_tell_people"):
            patch.setattr(life.channel, name, self._noting(name, lambda *_: None))
        patch.setattr(life.channel._saver, "save", self._noting("latch", life.disk.save))
        patch.setattr(life.sink, "emit", self._noting("record", lambda *_: None))

    def _noting(self, name: str, act: object) -> object:
        def call(*args: object, **named: object) -> object:
            self.made.append(name)
            return act(*args, **named)  # type: ignore[operator]

        return call

    def _order(self, _: str, energise: bool, now_ns: int) -> None:
        self.made.append("outputs")
        self.energise.append(energise)
        self.permit_then = self._life.read()


@pytest.mark.parametrize(
    ("response", "power_until_ns"),
    [
        (HOLD, NOW_NS + TTL_NS + SS1_NS),
        (SAFE_MODE, NOW_NS + SS1_NS),
        (EMERGENCY_STOP, 0),
        (SUSPEND, 0),
        (RETIRE, 0),
    ],
)
def test_a_trip_is_permit_outputs_other_module_latch_people_record(
    running: Life, monkeypatch: pytest.MonkeyPatch, response: Response, power_until_ns: int
) -> None:
    """Principle 4. When the relay is ordered, the permit file already says all of the stop."""
    before = running.read()
    calls = Calls(running, monkeypatch)
    running.channel.demand("something_new", Demand(response))
    running.channel.turn(NOW_NS)
    acts = ["permit.withdraw", "permit.write", "outputs", "_tell_peer", "latch", "_tell_people"]
    assert calls.made == [*acts, "record", "record"]
    assert calls.energise == [power_until_ns > 0]
    assert calls.permit_then == but(
        before,
        {
            "motion_until_ns": 0,
            "power_until_ns": power_until_ns,
            "epoch": before.epoch + 1,
            "speed_permille": 0,
            "response": int(response),
            "sequence": calls.permit_then.sequence,
        },
    )


def test_while_nothing_changes_the_permit_is_renewed_and_nobody_is_bothered(
    running: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(running, monkeypatch)
    running.channel.turn(NOW_NS + 10 * MS)
    assert calls.made == ["permit.write", "outputs"]
    assert running.read().motion_until_ns == NOW_NS + 10 * MS + TTL_NS


def test_a_stop_that_grows_worse_is_withdrawn_and_counted_again(running: Life) -> None:
    epoch = running.read().epoch
    for number, response in enumerate((HOLD, SAFE_MODE, EMERGENCY_STOP), 1):
        running.turn(NOW_NS + number, something_new=Demand(response))
        assert (running.read().response, running.read().epoch) == (response, epoch + number)
    assert running.relay.orders == {"relay": False}


def test_power_is_renewed_in_a_hold_and_ends_ss1_after_a_safe_mode(running: Life) -> None:
    running.turn(NOW_NS, guardian_hold=Demand())
    running.turn(NOW_NS + MS)
    assert running.read().power_until_ns == NOW_NS + MS + TTL_NS + SS1_NS
    running.turn(NOW_NS + 2 * MS, something_new=Demand(SAFE_MODE))
    last_ns = NOW_NS + 2 * MS + SS1_NS
    running.turn(last_ns - 1)
    assert running.relay.orders == {"relay": True}
    running.turn(last_ns)
    assert running.read().power_until_ns == last_ns
    assert running.relay.orders == {"relay": False}


def test_it_starts_stopped_before_and_after_its_first_turn(life: Life) -> None:
    assert (life.read().motion_until_ns, life.read().power_until_ns) == (0, 0)
    outcome = life.turn()
    assert outcome.raised == ("starting",)
    assert (life.read().motion_until_ns, life.read().power_until_ns, life.read().epoch) == (0, 0, 1)
    assert life.read().response == EMERGENCY_STOP
    assert life.relay.orders == {"relay": False}


def test_what_failed_to_look_does_not_renew(running: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault nobody foresaw: the permit runs out, for nothing renews it."""
    before = running.read()

    def fault(_: int) -> object:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(running.channel, "_sample", fault)
    with pytest.raises(RuntimeError):
        running.channel.turn(NOW_NS + 10 * MS)
    assert running.read() == before


def test_the_end_withdraws_everything_first_and_may_come_twice(running: Life) -> None:
    running.channel.close()
    running.channel.close()
    permit = running.read()
    assert (permit.motion_until_ns, permit.power_until_ns, permit.speed_permille) == (0, 0, 0)
    assert permit.response == EMERGENCY_STOP
    assert running.relay.orders == {"relay": False}


# ---- held up, slept, stepped


def test_a_permit_that_ran_out_before_its_renewal_is_a_stop_of_its_own(running: Life) -> None:
    """The robot has stopped by itself and must not start by itself."""
    epoch = running.read().epoch
    outcome = running.turn(NOW_NS + TTL_NS)
    assert outcome.raised == ("host_unwell",)
    assert running.read().motion_until_ns == 0
    assert running.read().epoch == epoch + 1
    running.turn(NOW_NS + TTL_NS + 10 * MS)
    assert running.read().motion_until_ns == 0
    assert running.channel.blockers == ()


def test_one_nanosecond_before_it_is_renewed(running: Life) -> None:
    assert running.turn(NOW_NS + TTL_NS - 1).raised == ()
    assert running.read().motion_until_ns == NOW_NS + 2 * TTL_NS - 1


def test_how_late_it_was_is_said(running: Life) -> None:
    running.turn(NOW_NS + TTL_NS + 250 * MS)
    (cause,) = running.channel.state.causes
    assert cause.detail == "the permit ran out 250 ms before its renewal"


def test_a_stopped_channel_has_no_permit_that_could_run_out(running: Life) -> None:
    running.turn(NOW_NS, guardian_hold=Demand())
    assert running.turn(NOW_NS + 10 * TTL_NS).raised == ()


class Clocks:
    """The three clocks a channel looks at, in place of its `time`; what is not set is the real one."""

    CLOCK_BOOTTIME = time.CLOCK_BOOTTIME

    def __init__(self) -> None:
        self.mono_ns = NOW_NS
        self.boot_ns = NOW_NS
        self.wall_ns = 1_800_000_000 * 10**9

    def monotonic_ns(self) -> int:
        return self.mono_ns

    def clock_gettime_ns(self, clock: int) -> int:
        assert clock == self.CLOCK_BOOTTIME
        return self.boot_ns

    def time_ns(self) -> int:
        return self.wall_ns

    def time(self) -> float:
        return self.wall_ns / 1e9

    def pass_ns(self, passed_ns: int, *, slept_ns: int = 0, stepped_ns: int = 0) -> None:
        self.mono_ns += passed_ns
        self.boot_ns += passed_ns + slept_ns
        self.wall_ns += passed_ns + slept_ns + stepped_ns


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    injected = Clocks()
    monkeypatch.setattr("agent.channel.time", injected)
    return injected


@pytest.fixture
def watched(clocks: Clocks, running: Life) -> Life:
    """Running, its clocks the test's."""
    return running


def look(life: Life, clocks: Clocks) -> tuple[str, ...]:
    life.channel.watch_clocks()
    return life.turn(clocks.mono_ns).raised


def test_clocks_that_go_on_together_raise_nothing(watched: Life, clocks: Clocks) -> None:
    for _ in range(5):
        clocks.pass_ns(10 * MS, slept_ns=SLEEP_NS // 10, stepped_ns=CLOCK_STEP_NS // 10)
        assert look(watched, clocks) == ()


def test_a_machine_that_slept_is_stopped(watched: Life, clocks: Clocks) -> None:
    clocks.pass_ns(10 * MS, slept_ns=SLEEP_NS + MS)
    assert look(watched, clocks) == ("suspended_host",)
    assert watched.channel.state.causes[0].detail == "slept 101 ms"
    assert watched.read().motion_until_ns == 0
    clocks.pass_ns(10 * MS)
    assert look(watched, clocks) == ()
    assert watched.read().motion_until_ns == 0


@pytest.mark.parametrize("by_ns", [CLOCK_STEP_NS + MS, -CLOCK_STEP_NS - MS])
def test_a_wall_clock_that_jumped_is_said_and_stops_nothing(
    watched: Life, clocks: Clocks, by_ns: int
) -> None:
    clocks.pass_ns(10 * MS, stepped_ns=by_ns)
    assert look(watched, clocks) == ("clock_jump",)
    (cause,) = watched.channel.state.causes
    assert (cause.response, cause.detail) == (Response.WARN, f"by {by_ns // MS} ms")
    assert watched.read().motion_until_ns == clocks.mono_ns + TTL_NS
    clocks.pass_ns(10 * MS)
    look(watched, clocks)
    assert watched.channel.state.causes == ()


@pytest.mark.parametrize("by_ns", [CLOCK_STEP_NS, -CLOCK_STEP_NS])
def test_a_step_within_the_bound_is_none(watched: Life, clocks: Clocks, by_ns: int) -> None:
    clocks.pass_ns(10 * MS, stepped_ns=by_ns, slept_ns=SLEEP_NS)
    assert look(watched, clocks) == ()


# ---- resume


def request(life: Life, peer_epoch: int = 3, **changes: object) -> ResumeRequest:
    right = ResumeRequest(life.channel.state.epoch + peer_epoch, life.channel.state.half + bytes(8))
    return but(right, changes)


PEER = but(UNHEARD, {"connected": True, "epoch": 3, "half": bytes(8)})


def test_a_resume_that_names_the_stop_and_carries_the_challenge_starts_once(life: Life) -> None:
    life.turn()
    life.turn()
    right = request(life)
    assert life.channel.resume_refusal(right, PEER) is None
    life.channel.grant(NOW_NS)
    assert life.read().motion_until_ns == NOW_NS + TTL_NS
    assert life.channel.resume_refusal(right, PEER) is Code.NOT_STOPPED
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
    """A resume is for the stop that stands, never for the next."""
    running.turn(NOW_NS, guardian_stop=Demand())
    running.channel.grant(NOW_NS)  # the condition is gone on this turn, and the resume covers it
    running.turn(NOW_NS, guardian_stop=Demand())
    running.turn()
    running.turn()
    assert running.channel.state.response is EMERGENCY_STOP


def test_a_suspended_robot_that_is_lifted_stays_stopped_until_a_resume(running: Life) -> None:
    running.turn(NOW_NS, suspended=Demand())
    running.turn()
    assert running.channel.blockers == (Code.REEVALUATION_NEEDED,)
    running.channel.lift("suspended", NOW_NS)
    running.disk.write()
    assert running.channel.blockers == ()
    assert running.read().motion_until_ns == 0
    running.channel.grant(NOW_NS)
    assert running.read().motion_until_ns == NOW_NS + TTL_NS


def test_a_standing_cause_is_true_until_it_is_ended(running: Life) -> None:
    running.channel.stand("maintenance", "刹" * 200, NOW_NS)
    running.disk.write()
    running.turn()
    assert running.channel.standing == {"maintenance": "刹" * 120}
    assert running.channel.blockers == (Code.IN_MAINTENANCE,)
    running.channel.stand("maintenance", None, NOW_NS)
    assert running.channel.blockers == ()
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
    counted = running.channel._meter.snapshot()
    assert ["reflex", "input_fault", "emergency_stop"] in labels(counted, "stops_total")
    assert ["reflex", "guardian_hold", "hold"] not in labels(counted, "stops_total")


def labels(snapshot: object, name: str) -> list[list[str]]:
    assert isinstance(snapshot, dict)
    return [list(series["labels"]) for series in snapshot[name]["series"]]


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


def test_what_is_latched_is_known_by_its_keys(running: Life, tmp_path: Path) -> None:
    running.turn(NOW_NS, guardian_hold=Demand(), **{"input_fault:estop": Demand()})
    assert running.channel.latched_keys == {"guardian_hold", "input_fault:estop"}
    with suppress(FileNotFoundError):
        assert latch.load(tmp_path / "reflex.latch") is not None
