"""A quantity that may be believed, and the three ways in which one may not."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.plan import Plausibility
from agent.core.quantity import FRESH_QUANTITY, NS_PER_S, Quantity, QuantityMemory, watch_quantity
from agent.core.readings import NEVER_READ, Quality, Reading

MS = 1_000_000
T0 = 5 * NS_PER_S
LIMITS = Plausibility(lowest=0.0, highest=10.0, max_rate_per_s=5.0, stuck_ns=2 * NS_PER_S)


class Sensor:
    """Speaks every 100 ms; every reading is looked at twice."""

    def __init__(self, limits: Plausibility = LIMITS) -> None:
        self.limits = limits
        self.memory: QuantityMemory = FRESH_QUANTITY
        self.now_ns = T0

    def say(self, value: float | bool | None, quality: Quality = Quality.GOOD, ms: int = 100) -> Quantity:
        self.now_ns += ms * MS
        reading = Reading(value, self.now_ns, quality, detail="said")
        self.memory, first = watch_quantity(self.limits, self.memory, reading, self.now_ns)
        self.memory, again = watch_quantity(self.limits, self.memory, reading, self.now_ns + 5 * MS)
        assert again == first
        return first


def test_a_plausible_value_is_good() -> None:
    assert Sensor().say(3.5) == Quantity(3.5, Quality.GOOD, "said")


@pytest.mark.parametrize(("value", "detail"), [(-0.001, "below 0"), (10.001, "above 10")])
def test_out_of_limits_is_a_fault_and_no_value(value: float, detail: str) -> None:
    seen = Sensor().say(value)
    assert (seen.value, seen.quality) == (None, Quality.FAULT)
    assert detail in seen.detail


@pytest.mark.parametrize("value", [0.0, 10.0])
def test_the_limits_themselves_are_plausible(value: float) -> None:
    assert Sensor().say(value).quality is Quality.GOOD


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, None])
def test_what_is_no_number_is_a_fault(value: float | bool | None) -> None:
    assert Sensor(Plausibility()).say(value).quality is Quality.FAULT


@pytest.mark.parametrize("quality", [Quality.STALE, Quality.FAULT])
def test_a_device_that_does_not_know_gives_no_value(quality: Quality) -> None:
    sensor = Sensor()
    sensor.say(3.0)
    assert sensor.say(3.0, quality) == Quantity(None, quality, "said")


def test_never_read_is_stale() -> None:
    assert watch_quantity(LIMITS, FRESH_QUANTITY, NEVER_READ, T0)[1].quality is Quality.STALE


def test_a_jump_is_a_fault_and_the_next_step_from_there_is_not() -> None:
    sensor = Sensor()
    sensor.say(1.0)
    assert sensor.say(1.5).quality is Quality.GOOD  # 5 per second, the limit itself
    assert sensor.say(2.01).quality is Quality.FAULT
    assert sensor.say(2.1).quality is Quality.GOOD


def test_after_a_gap_there_is_nothing_to_jump_from() -> None:
    sensor = Sensor()
    sensor.say(1.0)
    sensor.say(1.0, Quality.STALE)
    assert sensor.say(9.0).quality is Quality.GOOD


def test_a_value_that_never_moves_is_stuck_and_moving_mends_it() -> None:
    sensor = Sensor()
    seen = [sensor.say(4.0) for _ in range(22)]
    assert [q.quality for q in seen[:20]] == [Quality.GOOD] * 20
    assert seen[-1].quality is Quality.FAULT
    assert "stuck" in seen[-1].detail
    assert sensor.say(4.01).quality is Quality.GOOD


def test_without_limits_any_finite_number_is_good() -> None:
    sensor = Sensor(Plausibility())
    assert [sensor.say(value).quality for value in (-1e300, 1e300, 0.0, 0.0)] == [Quality.GOOD] * 4


finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(
    st.lists(st.tuples(st.one_of(finite, st.booleans(), st.none()), st.sampled_from(Quality)), max_size=50)
)
def test_no_value_is_ever_given_that_was_not_read_good_and_within_the_limits(
    said: list[tuple[float | bool | None, Quality]],
) -> None:
    sensor = Sensor()
    for value, quality in said:
        seen = sensor.say(value, quality)
        assert (seen.value is None) == (seen.quality is not Quality.GOOD)
        if seen.value is not None:
            assert quality is Quality.GOOD
            assert seen.value == value
            assert 0 <= seen.value <= 10
