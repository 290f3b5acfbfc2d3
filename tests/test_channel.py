"""One channel's shell: the order of a trip, and the clocks it watches."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.channel import CLOCK_STEP_NS, SLEEP_NS
from agent.core.causes import MS
from agent.core.machine import Demand
from agent.core.responses import Response
from tests.channel_lives import Clocks, blocked, run
from tests.channels import Life, disks
from tests.core.factories import NOW_NS, TIMES, but, small_plan

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
    assert blocked(running) == []


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
