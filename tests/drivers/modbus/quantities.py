"""Rules for a driver of quantities, from its far end to the causes that `agent.core.evaluate` makes of it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from agent.core.evaluate import Memory, evaluate, remember
from agent.core.machine import Demand
from agent.core.plan import Plan, Plausibility
from drivers.base import Device
from tests.core.factories import condition, contact_spec, quantity_spec, small_plan
from tests.core.factories import seen as all_well
from tests.drivers.hosts import MS, FakeHost

LIMITS = Plausibility(lowest=0.1, highest=30.0, max_rate_per_s=20.0, stuck_ns=1_000 * MS)


class QuantityRig(Protocol):
    """The device with one input `range`, in metres, opened by `measure`."""

    @property
    def host(self) -> FakeHost: ...

    @property
    def device(self) -> Device: ...

    def measure(self, value: float) -> None:
        """The far end measures so much from now on; returns when the device has been told."""

    def live(self, ms: int) -> None:
        """Time passes with the far end telling the same."""

    def refuse(self) -> None:
        """The far end tells what is no number, now."""

    def fall_silent(self) -> None:
        """The far end tells nothing any more; returns when the last word is too old."""


class Watch:
    """`reflex`'s side: one turn after the other, from the device's own readings."""

    def __init__(self, rig: QuantityRig, limits: Plausibility = LIMITS) -> None:
        self._rig = rig
        self.plan = plan_with(limits)
        self._memory: Memory | None = None

    def turn(self) -> Mapping[str, Demand]:
        """What demands a stop now."""
        now_ns = self._rig.host.time_ns
        memory = self._memory or remember(self.plan, frozenset(), now_ns)
        readings = {"range": self._rig.device.reading("range", now_ns)}
        self._memory, verdict = evaluate(self.plan, memory, all_well(now_ns, readings=readings), now_ns)
        return verdict.active

    def detail(self, key: str) -> str:
        active = self.turn()
        assert set(active) == {key}
        return active[key].detail


def plan_with(limits: Plausibility) -> Plan:
    spec = contact_spec(device=quantity_spec().device, contact=False, limits=limits)
    return small_plan(
        inputs={"range": spec},
        conditions=(
            condition("too_close", input="range", test="below", bound=0.5, for_ns=40 * MS),
            condition("too_far", input="range", test="above", bound=8.0, for_ns=40 * MS),
        ),
    )


class QuantityRules(ABC):
    """From a sensor's word to a cause."""

    @pytest.fixture
    @abstractmethod
    def rig(self, tmp_path: Path) -> Iterator[QuantityRig]: ...

    @pytest.fixture
    def watch(self, rig: QuantityRig) -> Watch:
        """A sensor that tells two metres, to a `reflex` that has seen it."""
        rig.measure(2.0)
        watch = Watch(rig)
        assert watch.turn() == {}
        return watch

    @pytest.mark.parametrize(("test", "value"), [("too_close", 0.4), ("too_far", 8.5)])
    def test_a_condition_demands_once_it_has_been_true_for_its_time(
        self, rig: QuantityRig, test: str, value: float
    ) -> None:
        watch = Watch(rig, Plausibility())
        rig.measure(2.0)
        assert watch.turn() == {}
        rig.measure(value)
        assert watch.turn() == {}
        rig.host.time_ns += 40 * MS - 1
        assert watch.turn() == {}
        rig.host.time_ns += 1
        assert set(watch.turn()) == {test}
        rig.measure(2.0)
        assert watch.turn() == {}

    def test_a_short_excursion_demands_nothing(self, rig: QuantityRig) -> None:
        watch = Watch(rig, Plausibility())
        rig.measure(0.4)
        watch.turn()
        rig.measure(0.5)
        watch.turn()
        rig.host.pass_ms(100)
        assert watch.turn() == {}

    @pytest.mark.parametrize(
        ("value", "detail"),
        [(0.05, "implausible: 0.05 is below 0.1"), (31.0, "implausible: 31 is above 30")],
    )
    def test_what_cannot_be_is_a_fault(
        self, rig: QuantityRig, watch: Watch, value: float, detail: str
    ) -> None:
        rig.measure(value)
        assert watch.detail("input_fault:range") == detail
        rig.measure(2.0)
        watch.turn()  # the way back was as fast as the way there
        rig.measure(2.1)
        assert watch.turn() == {}

    def test_what_changes_too_fast_is_a_fault(self, rig: QuantityRig, watch: Watch) -> None:
        rig.measure(7.0)
        assert watch.detail("input_fault:range") == "changed faster than 20 per second"

    def test_what_changes_at_the_pace_of_the_world_is_none(self, rig: QuantityRig, watch: Watch) -> None:
        for value in (2.1, 2.2, 2.05, 1.95):
            rig.measure(value)
            assert watch.turn() == {}

    def test_what_never_moves_is_a_fault(self, rig: QuantityRig, watch: Watch) -> None:
        rig.live(900)
        assert watch.turn() == {}
        rig.live(100)
        assert watch.detail("input_fault:range") == "stuck at 2 for 1 s"
        rig.measure(2.01)
        assert watch.turn() == {}

    def test_silence_is_stale(self, rig: QuantityRig, watch: Watch) -> None:
        rig.fall_silent()
        assert set(watch.turn()) == {"input_stale:range"}

    def test_no_number_is_a_fault(self, rig: QuantityRig, watch: Watch) -> None:
        rig.refuse()
        assert watch.detail("input_fault:range")

    def test_not_knowing_leaves_a_condition_as_it_was(self, rig: QuantityRig) -> None:
        watch = Watch(rig, Plausibility())
        rig.measure(0.4)
        watch.turn()
        rig.host.pass_ms(40)
        assert set(watch.turn()) == {"too_close"}
        rig.fall_silent()
        assert set(watch.turn()) == {"too_close", "input_stale:range"}
