"""Contacts on modem lines: the rules of all drivers, what a reading says, and what the line test finds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.readings import Quality
from drivers.registry import Wanted
from drivers.serial_contact.device import build
from drivers.serial_contact.line_test import SETTLE_NS
from drivers.serial_contact.lines import NONE, Line
from tests.drivers.hosts import MS, FakeHost
from tests.drivers.rules import InputRig, InputRules, OutputRig, OutputRules
from tests.drivers.serial_contact.rig import TICK_MS, ContactRig
from tests.drivers.serial_contact.world import PATH, World


class TestAsInput(InputRules):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[InputRig]:
        rig = ContactRig()
        yield rig
        rig.release()


class TestAsInputWithoutEdges(InputRules):
    """Where the kernel has no TIOCMIWAIT, the ticks alone keep every rule."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[InputRig]:
        rig = ContactRig()
        rig.world.edges_told = False
        yield rig
        rig.release()


class TestAsOutput(OutputRules):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[OutputRig]:
        rig = ContactRig()
        yield rig
        rig.release()


class TestAsOutputOnRi(OutputRules):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[OutputRig]:
        rig = ContactRig(readback="ri")
        yield rig
        rig.release()


# ------------------------------------------------------------------------------------- what a reading says


@pytest.mark.parametrize("a", [True, False])
@pytest.mark.parametrize("b", [True, False])
def test_each_contact_is_its_own_line(rig: ContactRig, a: bool, b: bool) -> None:
    rig.run()
    rig.world.a, rig.world.b = a, b
    rig.tick(TICK_MS)
    assert (rig.reading().value, rig.reading().second) == (a, b)
    assert (rig.reading().quality, rig.reading().taken_ns) == (Quality.GOOD, rig.host.time_ns)


def test_nothing_is_read_before_the_lines_were_seen_dark(rig: ContactRig) -> None:
    rig.world.silent = False
    rig.device.open()
    assert rig.world.plug.driven == NONE
    rig.tick(TICK_MS)
    assert rig.reading().value is None
    assert rig.reading().detail == "no answer"
    assert rig.world.plug.driven == Line.DTR
    rig.tick(SETTLE_NS / MS)
    assert (rig.reading().value, rig.reading().quality) == (True, Quality.GOOD)
    assert rig.host.changes == 1


def test_a_button_that_is_pressed_at_the_start_reads_open(rig: ContactRig) -> None:
    rig.press()
    rig.world.silent = False
    rig.device.open()
    rig.tick(2 * TICK_MS + SETTLE_NS / MS)
    assert (rig.reading().value, rig.reading().second) == (False, False)
    assert rig.reading().quality is Quality.GOOD


def test_a_contact_that_is_live_at_the_start_is_a_fault_before_it_is_a_reading(rig: ContactRig) -> None:
    rig.world.stuck = Line.DSR
    seen: list[tuple[object, Quality]] = []
    rig.host.on_changed = lambda: seen.append((rig.reading().second, rig.reading().quality))
    rig.world.silent = False
    rig.device.open()
    rig.tick(100)
    assert seen == [(None, Quality.STALE), (True, Quality.FAULT)]


def test_each_input_has_its_own_bound_and_the_stricter_test_counts() -> None:
    host = FakeHost()
    world = World(host)
    settings: dict[str, object] = {"port": PATH, "test_period_s": 10, "test_pulse_ms": 25, "stale_ms": 100}
    other = {**settings, "test_period_s": 2, "test_pulse_ms": 8, "stale_ms": 300}
    wanted = [Wanted("estop", settings), Wanted("again", other)]
    device = build(PATH, wanted, [], host, open_port=world.open)
    device.open()
    host.tick(device, 2_200)
    supply = [(at_ns, high) for at_ns, line, high in world.plug.log if line is Line.DTR]
    dark_ns, lit_ns = supply[-2][0], supply[-1][0]
    assert [high for _, high in supply] == [False, True, False, True]
    assert lit_ns - dark_ns == 30 * MS
    host.pass_ms(299)
    assert host.quality(device, "estop") is Quality.STALE
    assert host.quality(device, "again") is Quality.GOOD
    device.close()


def test_an_answer_that_fails_now_and_then_is_no_silence(rig: ContactRig) -> None:
    rig.run()
    before = rig.host.changes
    for _ in range(20):
        rig.world.silent = True
        rig.tick(80)
        rig.world.silent = False
        rig.tick(TICK_MS)
    assert rig.reading().quality is Quality.GOOD
    assert rig.device.counters["answers_missing"] == 160
    assert rig.host.changes == before


def test_a_port_that_stops_to_answer_is_stale_and_named(rig: ContactRig) -> None:
    rig.run()
    rig.world.silent = True
    rig.tick(200)
    assert (rig.reading().quality, rig.reading().detail) == (Quality.STALE, "no answer: no word")
    rig.world.silent = False
    rig.tick(TICK_MS)
    rig.host.pass_ms(100)
    assert (rig.reading().quality, rig.reading().detail) == (Quality.STALE, "no answer")


# ------------------------------------------------------------------------------------------- the line test


def test_no_pulse_is_ever_seen_as_a_press(rig: ContactRig) -> None:
    rig.run()
    before = rig.host.changes
    for _ in range(6_100):
        rig.tick(TICK_MS)
        reading = rig.reading()
        assert (reading.value, reading.second, reading.quality) == (True, True, Quality.GOOD)
    assert rig.host.changes == before
    assert rig.device.counters["line_tests"] == 7
    assert rig.device.counters["line_tests_failed"] == 0


def test_a_pulse_ends_with_the_first_tick_after_its_time(rig: ContactRig) -> None:
    rig.run()
    rig.tick(10_500)
    supply = [(at_ns, high) for at_ns, line, high in rig.world.plug.log if line is Line.DTR]
    assert [high for _, high in supply] == [False, True, False, True]
    assert supply[3][0] - supply[2][0] == 10 * MS


@pytest.mark.parametrize(
    ("stuck", "names"),
    [(Line.CTS, "CTS"), (Line.DSR, "DSR"), (Line.CTS | Line.DSR, "CTS and DSR")],
)
def test_a_line_that_is_live_without_its_supply_is_found(rig: ContactRig, stuck: Line, names: str) -> None:
    rig.run()
    rig.world.stuck = stuck
    rig.tick(10_100)
    assert rig.reading().quality is Quality.FAULT
    assert rig.reading().detail == f"{names} closed with the supply off"
    assert rig.device.counters["line_tests_failed"] > 0


def test_a_fault_outlives_the_port_and_a_press(rig: ContactRig) -> None:
    rig.run()
    rig.world.stuck = Line.CTS
    rig.tick(10_100)
    rig.press()
    rig.tick(3_000)
    assert rig.reading().quality is Quality.FAULT
    rig.unplug()
    assert rig.reading().detail == "CTS closed with the supply off, then port away: hung up"


def test_a_repair_is_seen_within_a_second_or_so(rig: ContactRig) -> None:
    rig.run()
    rig.world.stuck = Line.CTS
    rig.tick(10_100)
    rig.world.stuck = NONE
    rig.tick(1_100)
    assert rig.reading().quality is Quality.GOOD


def test_open_contacts_are_not_tested_and_closed_ones_soon_are(rig: ContactRig) -> None:
    rig.run()
    rig.press()
    rig.tick(30_000)
    assert rig.device.counters["line_tests"] == 1
    rig.press(pressed=False)
    rig.tick(50)
    assert rig.device.counters["line_tests"] == 2
    assert rig.reading().value is True


def test_the_closed_one_of_two_that_disagree_is_tested(rig: ContactRig) -> None:
    rig.run()
    rig.world.a, rig.world.stuck = False, Line.DSR
    rig.tick(10_100)
    assert rig.reading().detail == "DSR closed with the supply off"
    assert (rig.reading().value, rig.reading().second) == (False, True)


@pytest.mark.parametrize("ticks", [0, 1, 2, 3])
@pytest.mark.parametrize("lag_ms", [0, 5])
def test_a_press_during_the_test_is_seen_at_its_end(rig: ContactRig, ticks: int, lag_ms: int) -> None:
    """Bound: pulse, settling and two ticks after the pulse began (line_test.py)."""
    rig.world.lag_ns = lag_ms * MS
    rig.run()
    rig.until_pulse()
    began_ns = rig.host.time_ns
    rig.tick(ticks * TICK_MS)
    rig.press()
    while rig.reading().value is True:
        assert rig.reading().quality is Quality.GOOD
        rig.tick(TICK_MS)
    bound_ns = 8 * MS + SETTLE_NS + 2 * TICK_MS * MS
    assert rig.host.time_ns - began_ns <= max(bound_ns, (ticks + 1) * TICK_MS * MS)
    assert (rig.reading().second, rig.reading().quality) == (False, Quality.GOOD)


def test_one_contact_that_opens_during_the_test_is_seen_as_a_discrepancy(rig: ContactRig) -> None:
    rig.run()
    rig.until_pulse()
    rig.world.b = False
    rig.tick(50)
    assert (rig.reading().value, rig.reading().second) == (True, False)


@pytest.mark.parametrize("lag_ms", [1, 7, 15])
def test_a_port_that_is_slow_to_tell_needs_a_longer_pulse_and_then_shows_no_press(lag_ms: int) -> None:
    """A USB adapter holds a change back for up to 16 ms."""
    rig = ContactRig(test_pulse_ms=18)
    rig.world.lag_ns = lag_ms * MS
    rig.run()
    before = rig.host.changes
    rig.tick(60_000)
    assert rig.device.counters["line_tests"] >= 6
    assert (rig.reading().value, rig.reading().quality) == (True, Quality.GOOD)
    assert rig.host.changes == before
    rig.release()


def test_a_pulse_too_short_for_the_port_is_a_fault_and_no_danger(rig: ContactRig) -> None:
    rig.run()
    rig.world.lag_ns = 15 * MS
    rig.tick(10_100)
    assert rig.reading().quality is Quality.FAULT


@pytest.mark.parametrize("pulse_ms", [5, 8, 10, 20, 30, 50])
@pytest.mark.parametrize("every_ms", [5, 9.3, 10, 10.6])
def test_no_pulse_that_the_settings_allow_looks_like_silence(pulse_ms: int, every_ms: float) -> None:
    rig = ContactRig(test_period_s=1, test_pulse_ms=pulse_ms)
    rig.run()
    before = rig.host.changes
    for _ in range(600):
        rig.tick(every_ms, every_ms=every_ms)
        assert rig.reading().quality is Quality.GOOD
    assert rig.host.changes == before
    assert rig.device.counters["line_tests"] > 2
    rig.release()


def test_a_test_that_is_not_ended_in_time_is_a_silence(rig: ContactRig) -> None:
    """The module stands still while the supply is off: what it last saw must not last."""
    rig.run()
    rig.until_pulse()
    rig.host.pass_ms(99)
    assert rig.reading().quality is Quality.GOOD
    rig.host.pass_ms(1)
    assert rig.reading().quality is Quality.STALE
