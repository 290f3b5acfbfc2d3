"""Rules that every driver keeps, whatever it drives. A driver's tests inherit them and bring a rig.

A rig is the device under test with a scripted far end. Its actions return once the device has taken what the
far end did, so a rule never waits for a time; the device's clock is `host.time_ns`.

Where kinds differ, the difference is a trait, and a rule says what must be true either way: no kind leaves a
rule out.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import pytest

from agent.core.readings import Quality
from drivers.base import Device
from tests.drivers.hosts import FakeHost


@dataclass(frozen=True, slots=True)
class Traits:
    """What of a kind the rules must know."""

    descriptor: bool = True
    """It reaches its far end through a descriptor that the loop watches: True exactly while it holds one.
    False: it looks, or is told, at its ticks, and no descriptor is ever watched."""


class Rig(Protocol):
    """What both suites need. A rig begins with the device built but not opened, and the far end there."""

    @property
    def host(self) -> FakeHost: ...

    @property
    def device(self) -> Device: ...

    @property
    def stale_ns(self) -> int:
        """The age from which `input_name` and `output_name` are not known any more."""

    def start(self) -> None:
        """Open, and speak until the far end is believed; contacts closed, output de-energised, no fault."""

    def unplug(self) -> None:
        """The far end goes away with its path; the device has noticed if it was open."""

    def replug(self) -> None:
        """The far end is back at its path and silent; the device has not been told."""


class InputRig(Rig, Protocol):
    @property
    def input_name(self) -> str: ...

    def show(self, *, closed: bool) -> None:
        """The far end shows the contact so, now."""

    def break_down(self) -> None:
        """The far end says that it is broken."""

    def babble(self) -> None:
        """The far end sends what no frame can be."""


class OutputRig(Rig, Protocol):
    @property
    def output_name(self) -> str: ...

    def speak(self, *, energised: bool) -> None:
        """The far end says that its relay is so, now."""

    def await_order(self, *, energise: bool) -> None:
        """Returns once the latest order the far end has heard since the last call is this one."""

    def energised_orders(self) -> int:
        """How many orders to energise the far end has heard since it was plugged in."""


class InputRules(ABC):
    """What a reading may claim."""

    traits: ClassVar[Traits] = Traits()

    @pytest.fixture
    @abstractmethod
    def rig(self, tmp_path: Path) -> Iterator[InputRig]: ...

    def test_nothing_is_known_before_the_first_word(self, rig: InputRig) -> None:
        before = rig.device.reading(rig.input_name, rig.host.time_ns)
        rig.device.open()
        rig.host.tick(rig.device, 1_000)
        after = rig.device.reading(rig.input_name, rig.host.time_ns)
        for reading in (before, after):
            assert (reading.value, reading.second, reading.quality) == (None, None, Quality.STALE)
            assert 0 < len(reading.detail) <= 120
        assert rig.host.changes == 0

    def test_a_closed_contact_reads_true_and_good(self, rig: InputRig) -> None:
        rig.start()
        reading = rig.device.reading(rig.input_name, rig.host.time_ns)
        assert (reading.value, reading.quality, reading.detail) == (True, Quality.GOOD, "")
        assert reading.second in {True, None}
        assert reading.taken_ns == rig.host.time_ns

    def test_an_opened_contact_is_told_at_once(self, rig: InputRig) -> None:
        rig.start()
        before = rig.host.changes
        rig.show(closed=False)
        reading = rig.device.reading(rig.input_name, rig.host.time_ns)
        assert (reading.value, reading.quality) == (False, Quality.GOOD)
        assert rig.host.changes == before + 1

    def test_the_module_reads_the_new_value_inside_the_call(self, rig: InputRig) -> None:
        rig.start()
        seen: list[bool | float | None] = []
        rig.host.on_changed = lambda: seen.append(rig.device.reading(rig.input_name, rig.host.now_ns()).value)
        rig.show(closed=False)
        rig.show(closed=True)
        assert seen == [False, True]

    def test_the_same_again_is_not_told(self, rig: InputRig) -> None:
        rig.start()
        before = rig.host.changes
        rig.show(closed=True)
        rig.show(closed=True)
        assert rig.host.changes == before

    def test_good_until_just_before_the_bound_and_stale_from_it_on(self, rig: InputRig) -> None:
        rig.start()
        rig.host.time_ns += rig.stale_ns - 1
        assert rig.host.quality(rig.device, rig.input_name) is Quality.GOOD
        rig.host.time_ns += 1
        reading = rig.device.reading(rig.input_name, rig.host.time_ns)
        assert (reading.quality, reading.value) == (Quality.STALE, True)
        assert 0 < len(reading.detail) <= 120

    def test_silence_stays_stale(self, rig: InputRig) -> None:
        rig.start()
        rig.host.time_ns += rig.stale_ns
        rig.host.tick(rig.device, 5_000)
        assert rig.host.quality(rig.device, rig.input_name) is Quality.STALE

    def test_one_word_after_a_silence_is_told(self, rig: InputRig) -> None:
        rig.start()
        rig.host.time_ns += 2 * rig.stale_ns
        before = rig.host.changes
        rig.show(closed=True)
        assert rig.host.quality(rig.device, rig.input_name) is Quality.GOOD
        assert rig.host.changes == before + 1

    def test_babble_refreshes_nothing_and_is_reported(self, rig: InputRig) -> None:
        rig.start()
        rig.host.time_ns += rig.stale_ns - 1
        rig.babble()
        assert rig.host.quality(rig.device, rig.input_name) is Quality.GOOD
        rig.host.time_ns += 1
        assert rig.host.quality(rig.device, rig.input_name) is Quality.STALE
        assert rig.host.bad
        assert {source for source, _ in rig.host.bad} == {rig.device.name}

    def test_a_word_after_babble_is_heard(self, rig: InputRig) -> None:
        rig.start()
        rig.babble()
        rig.show(closed=False)
        assert rig.device.reading(rig.input_name, rig.host.time_ns).value is False

    def test_a_fault_is_told_and_has_words(self, rig: InputRig) -> None:
        rig.start()
        before = rig.host.changes
        rig.break_down()
        reading = rig.device.reading(rig.input_name, rig.host.time_ns)
        assert reading.quality is Quality.FAULT
        assert 0 < len(reading.detail) <= 120
        assert rig.host.changes == before + 1

    def test_a_fault_ends_with_a_word_that_says_so_and_not_with_silence(self, rig: InputRig) -> None:
        rig.start()
        rig.break_down()
        rig.host.time_ns += 2 * rig.stale_ns
        assert rig.host.quality(rig.device, rig.input_name) is Quality.FAULT
        rig.show(closed=True)
        assert rig.host.quality(rig.device, rig.input_name) is Quality.GOOD

    def test_an_unplugged_device_is_stale_at_once_and_told(self, rig: InputRig) -> None:
        rig.start()
        before = rig.host.changes
        rig.unplug()
        assert rig.host.quality(rig.device, rig.input_name) is Quality.STALE
        assert rig.host.changes == before + 1
        assert not rig.host.watched

    def test_a_device_that_comes_back_says_nothing_until_it_speaks(self, rig: InputRig) -> None:
        rig.start()
        rig.unplug()
        rig.replug()
        rig.host.tick(rig.device, 3_000)
        assert bool(rig.host.watched) is self.traits.descriptor
        assert rig.host.quality(rig.device, rig.input_name) is Quality.STALE
        rig.show(closed=True)
        assert rig.host.quality(rig.device, rig.input_name) is Quality.GOOD

    def test_a_device_that_is_away_at_the_start_is_found_later(self, rig: InputRig) -> None:
        rig.unplug()
        rig.device.open()
        rig.host.tick(rig.device, 10_000)
        reading = rig.device.reading(rig.input_name, rig.host.time_ns)
        assert (reading.value, reading.quality) == (None, Quality.STALE)
        assert 0 < len(reading.detail) <= 120
        rig.replug()
        rig.host.tick(rig.device, 3_000)
        assert bool(rig.host.watched) is self.traits.descriptor
        for _ in range(3):  # the first words of a device that nobody knows yet may prove nothing
            rig.host.pass_ms(10)
            rig.show(closed=True)
        assert rig.host.quality(rig.device, rig.input_name) is Quality.GOOD

    def test_a_closed_device_knows_nothing_and_stays_closed(self, rig: InputRig) -> None:
        rig.start()
        rig.device.close()
        rig.device.open()
        rig.host.tick(rig.device, 5_000)
        assert rig.host.quality(rig.device, rig.input_name) is Quality.STALE
        assert not rig.host.watched

    def test_a_name_that_is_not_its_own_is_a_mistake(self, rig: InputRig) -> None:
        with pytest.raises(KeyError):
            rig.device.reading("no such input", rig.host.time_ns)

    def test_counters_are_there_from_the_start_and_only_grow(self, rig: InputRig) -> None:
        before = dict(rig.device.counters)
        assert before
        assert set(before.values()) == {0}
        rig.start()
        rig.babble()
        after = dict(rig.device.counters)
        assert after.keys() == before.keys()
        assert sum(after.values()) > 0
        assert min(after.values()) >= 0


class OutputRules(ABC):
    """What an order does, and what a read-back may claim."""

    traits: ClassVar[Traits] = Traits()

    @pytest.fixture
    @abstractmethod
    def rig(self, tmp_path: Path) -> Iterator[OutputRig]: ...

    def test_nothing_is_energised_before_an_order(self, rig: OutputRig) -> None:
        rig.start()
        rig.host.tick(rig.device, 100)
        rig.await_order(energise=False)
        rig.device.order(rig.output_name, True, rig.host.time_ns)
        rig.await_order(energise=True)
        assert rig.energised_orders() == 1

    def test_an_order_is_written_at_once(self, rig: OutputRig) -> None:
        rig.start()
        rig.device.order(rig.output_name, True, rig.host.time_ns)  # neither tick nor time after it
        rig.await_order(energise=True)
        rig.device.order(rig.output_name, False, rig.host.time_ns)
        rig.await_order(energise=False)

    def test_an_order_may_be_given_inside_the_call_that_tells_a_change(self, rig: OutputRig) -> None:
        rig.start()
        rig.device.order(rig.output_name, True, rig.host.time_ns)
        rig.await_order(energise=True)
        rig.host.on_changed = lambda: rig.device.order(rig.output_name, False, rig.host.now_ns())
        rig.speak(energised=True)
        rig.await_order(energise=False)

    def test_nothing_is_read_back_before_the_first_word(self, rig: OutputRig) -> None:
        rig.device.open()
        rig.device.order(rig.output_name, True, rig.host.time_ns)
        assert rig.device.readback(rig.output_name, rig.host.time_ns) is None

    def test_the_read_back_is_what_the_far_end_says_not_what_was_ordered(self, rig: OutputRig) -> None:
        rig.start()
        assert rig.device.readback(rig.output_name, rig.host.time_ns) is False
        rig.device.order(rig.output_name, True, rig.host.time_ns)
        assert rig.device.readback(rig.output_name, rig.host.time_ns) is not True
        rig.speak(energised=True)
        assert rig.device.readback(rig.output_name, rig.host.time_ns) is True
        rig.device.order(rig.output_name, False, rig.host.time_ns)
        assert rig.device.readback(rig.output_name, rig.host.time_ns) is not False

    def test_a_changed_relay_is_told(self, rig: OutputRig) -> None:
        rig.start()
        before = rig.host.changes
        rig.speak(energised=True)
        rig.speak(energised=False)
        assert rig.host.changes == before + 2

    def test_the_read_back_is_unknown_from_the_bound_on(self, rig: OutputRig) -> None:
        rig.start()
        rig.speak(energised=True)
        rig.host.time_ns += rig.stale_ns - 1
        assert rig.device.readback(rig.output_name, rig.host.time_ns) is True
        rig.host.time_ns += 1
        assert rig.device.readback(rig.output_name, rig.host.time_ns) is None

    def test_the_read_back_of_an_unplugged_device_is_unknown_at_once(self, rig: OutputRig) -> None:
        rig.start()
        rig.unplug()
        assert rig.device.readback(rig.output_name, rig.host.time_ns) is None

    def test_an_order_to_a_device_that_is_away_raises_nothing(self, rig: OutputRig) -> None:
        rig.unplug()
        rig.device.open()
        rig.device.order(rig.output_name, True, rig.host.time_ns)
        rig.device.order(rig.output_name, False, rig.host.time_ns)
        rig.host.tick(rig.device, 1_000)
        assert rig.device.readback(rig.output_name, rig.host.time_ns) is None

    def test_a_device_that_was_lost_comes_back_de_energised(self, rig: OutputRig) -> None:
        rig.start()
        rig.device.order(rig.output_name, True, rig.host.time_ns)
        rig.await_order(energise=True)
        rig.unplug()
        rig.replug()
        rig.host.tick(rig.device, 3_000)
        assert bool(rig.host.watched) is self.traits.descriptor
        rig.await_order(energise=False)
        rig.device.order(rig.output_name, True, rig.host.time_ns)
        rig.await_order(energise=True)
        assert rig.energised_orders() == 1

    def test_close_de_energises(self, rig: OutputRig) -> None:
        rig.start()
        rig.device.order(rig.output_name, True, rig.host.time_ns)
        rig.await_order(energise=True)
        rig.device.close()
        rig.await_order(energise=False)

    def test_nothing_is_energised_after_close(self, rig: OutputRig) -> None:
        rig.start()
        rig.device.order(rig.output_name, True, rig.host.time_ns)
        rig.device.close()
        rig.device.close()
        rig.device.order(rig.output_name, True, rig.host.time_ns)
        rig.host.tick(rig.device, 5_000)
        rig.await_order(energise=False)
        assert rig.energised_orders() == 1
        assert not rig.host.watched

    def test_close_without_open_is_harmless(self, rig: OutputRig) -> None:
        rig.device.close()
        assert not rig.host.watched

    def test_a_name_that_is_not_its_own_is_a_mistake(self, rig: OutputRig) -> None:
        with pytest.raises(KeyError):
            rig.device.order("no such output", True, rig.host.time_ns)
        with pytest.raises(KeyError):
            rig.device.readback("no such output", rig.host.time_ns)
