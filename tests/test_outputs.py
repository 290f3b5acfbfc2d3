"""Outputs are energised to run and read back; one that does not do what it was told is a fault."""

from typing import Any, cast

import pytest

from agent.core.causes import MS
from agent.core.machine import Demand
from agent.outputs import UNSEEN_NS, Outputs
from drivers.base import Device
from tests.channels import Relay
from tests.core.factories import NOW_NS, output_spec

READBACK_MS = 300
GRACE_NS = 3000 * MS
LATER_NS = NOW_NS + GRACE_NS + 10_000 * MS
"""Long after the start."""


class Bench:
    """Outputs `a` and `b` on relays of their own."""

    def __init__(self, *, started_ns: int = NOW_NS) -> None:
        self.started_ns = started_ns
        self.relays = {"a": Relay(), "b": Relay()}
        specs = dict.fromkeys(self.relays, output_spec(readback_ms=READBACK_MS))
        self.outputs = Outputs(specs, cast("dict[str, Device]", self.relays), started_ns)

    def faults(self, now_ns: int) -> dict[str, Demand]:
        return dict(self.outputs.faults(now_ns, self.started_ns, GRACE_NS))

    def energised(self) -> bool:
        return self.outputs.energised

    def all_say(self, said: Any) -> None:  # noqa: ANN401 - True, False, None
        for relay in self.relays.values():
            relay.says = lambda _: said


def fault(name: str, said: str) -> dict[str, Demand]:
    return {f"output_fault:{name}": Demand(detail=f"reads back {said}")}


def test_before_the_first_order_nothing_is_energised() -> None:
    bench = Bench()
    assert not bench.energised()
    assert bench.relays["a"].orders == {}


def test_an_order_reaches_every_output() -> None:
    bench = Bench()
    bench.outputs.order(True, NOW_NS)
    assert bench.energised()
    assert bench.relays["a"].orders == {"a": True}
    assert bench.relays["b"].orders == {"b": True}
    bench.outputs.order(False, NOW_NS)
    assert not bench.energised()
    assert bench.relays["b"].orders == {"b": False}


def test_every_order_is_given_again_so_that_a_device_that_came_back_has_it() -> None:
    bench = Bench()
    bench.outputs.order(True, NOW_NS)
    bench.relays["a"].orders.clear()
    bench.outputs.order(True, NOW_NS)
    assert bench.relays["a"].orders == {"a": True}


def test_outputs_that_obey_are_no_fault() -> None:
    bench = Bench()
    for energise in (False, True, False):
        bench.outputs.order(energise, LATER_NS)
        assert bench.faults(LATER_NS) == {}
        assert bench.faults(LATER_NS + 10_000 * MS) == {}


@pytest.mark.parametrize(
    ("energise", "said", "words"),
    [
        (True, False, "de-energised"),
        (False, True, "energised"),
        (True, None, "nothing"),
        (False, None, "nothing"),
    ],
)
def test_an_output_has_its_time_to_obey_a_new_order(energise: bool, said: bool | None, words: str) -> None:
    bench = Bench()
    bench.outputs.order(not energise, LATER_NS - 1)
    bench.outputs.order(energise, LATER_NS)
    bench.relays["a"].says = lambda _: said
    due_ns = LATER_NS + READBACK_MS * MS
    assert bench.faults(due_ns - 1) == {}
    assert bench.faults(due_ns) == fault("a", words)


def test_an_order_that_is_only_repeated_gives_no_new_time() -> None:
    bench = Bench()
    bench.relays["a"].says = lambda _: False
    for ms in range(0, READBACK_MS + 1, 10):
        bench.outputs.order(True, LATER_NS + ms * MS)
    assert bench.faults(LATER_NS + READBACK_MS * MS) == fault("a", "de-energised")


def test_a_late_output_that_obeys_within_its_time_is_no_fault() -> None:
    bench = Bench()
    bench.outputs.order(True, LATER_NS)
    bench.all_say(None)
    assert bench.faults(LATER_NS + 299 * MS) == {}
    bench.all_say(True)
    assert bench.faults(LATER_NS + 300 * MS) == {}


@pytest.mark.parametrize("energise", [True, False])
def test_an_output_that_obeyed_and_then_says_otherwise_is_a_fault_at_once(energise: bool) -> None:
    """A relay that opened by itself must not close by itself."""
    bench = Bench()
    bench.outputs.order(energise, LATER_NS)
    assert bench.faults(LATER_NS) == {}
    bench.relays["b"].says = lambda _: not energise
    assert set(bench.faults(LATER_NS + 1)) == {"output_fault:b"}


@pytest.mark.parametrize("energise", [True, False])
def test_an_output_that_obeyed_and_went_silent_is_a_fault_once_it_may_have_opened_by_itself(
    energise: bool,
) -> None:
    bench = Bench()
    bench.outputs.order(energise, LATER_NS)
    assert bench.faults(LATER_NS + 10 * MS) == {}
    bench.relays["b"].says = lambda _: None
    due_ns = LATER_NS + 10 * MS + UNSEEN_NS
    assert bench.faults(due_ns - 1) == {}
    assert bench.faults(due_ns) == fault("b", "nothing")


def test_what_it_obeyed_before_a_new_order_says_nothing_about_this_one() -> None:
    bench = Bench()
    bench.outputs.order(True, LATER_NS)
    assert bench.faults(LATER_NS) == {}
    bench.outputs.order(False, LATER_NS + 1)
    bench.all_say(True)
    assert bench.faults(LATER_NS + 1) == {}
    assert set(bench.faults(LATER_NS + 1 + READBACK_MS * MS)) == {"output_fault:a", "output_fault:b"}


def test_an_output_that_has_not_spoken_yet_after_the_start_is_waited_for() -> None:
    bench = Bench()
    bench.all_say(None)
    due_ns = NOW_NS + READBACK_MS * MS
    assert bench.faults(due_ns - 1) == {}
    # Both outputs wait; one cause says so.
    assert bench.faults(due_ns) == {"starting": Demand(detail="waiting for b")}
    assert set(bench.faults(NOW_NS + GRACE_NS - 1)) == {"starting"}
    assert set(bench.faults(NOW_NS + GRACE_NS)) == {"output_fault:a", "output_fault:b"}


def test_an_output_that_contradicts_is_not_waited_for() -> None:
    bench = Bench()
    bench.relays["a"].says = lambda _: True
    assert bench.faults(NOW_NS + READBACK_MS * MS) == fault("a", "energised")


def test_an_output_that_spoke_and_went_silent_is_not_waited_for() -> None:
    bench = Bench()
    assert bench.faults(NOW_NS) == {}
    bench.all_say(None)
    assert set(bench.faults(NOW_NS + UNSEEN_NS)) == {"output_fault:a", "output_fault:b"}


@pytest.mark.parametrize(("said", "dropped"), [(False, True), (True, False), (None, False)])
def test_dropped_is_seen_and_not_believed(said: bool | None, dropped: bool) -> None:
    bench = Bench()
    bench.outputs.order(False, NOW_NS)
    bench.relays["a"].says = lambda _: said
    assert bench.outputs.dropped(NOW_NS) == dropped


def test_a_channel_without_outputs_has_nothing_to_drop_or_to_fail() -> None:
    outputs = Outputs({}, {}, NOW_NS)
    outputs.order(True, NOW_NS)
    assert outputs.energised
    assert outputs.dropped(NOW_NS)
    assert list(outputs.faults(LATER_NS, NOW_NS, GRACE_NS)) == []
