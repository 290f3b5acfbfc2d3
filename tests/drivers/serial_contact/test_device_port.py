"""The port under contacts and a relay: away, lost at every moment, closed, babbling."""

import pytest

from agent.core.readings import Quality
from drivers.serial_contact.lines import NONE, Line
from tests.drivers.hosts import MS
from tests.drivers.serial_contact.rig import TICK_MS, ContactRig


def attempts_ms(rig: ContactRig, during_ms: int) -> list[int]:
    """When the device tried to open its port while time passed, from now."""
    began_ns = rig.host.time_ns
    tried: list[int] = []
    open_port = rig.world.open

    def count(path: str) -> object:
        tried.append((rig.host.time_ns - began_ns) // MS)
        return open_port(path)

    rig.device._open_port = count  # type: ignore[assignment]
    rig.tick(during_ms)
    rig.device._open_port = open_port
    return tried


def test_attempts_to_reopen_are_spaced_out(rig: ContactRig) -> None:
    rig.run()
    rig.unplug()
    assert attempts_ms(rig, 8_000) == [100, 300, 700, 1_500, 3_100, 5_100, 7_100]
    assert rig.reading().detail == "port away: not there"


def test_only_an_answer_makes_the_waits_short_again(rig: ContactRig) -> None:
    rig.run()
    rig.unplug()
    rig.replug()
    rig.tick(100)
    rig.unplug()
    assert attempts_ms(rig, 600) == [200, 600]
    rig.replug()
    rig.world.silent = False
    rig.tick(1_000)
    assert rig.reading().quality is Quality.GOOD
    rig.unplug()
    assert attempts_ms(rig, 300) == [100, 300]
    assert rig.device.counters["reopens"] == 2


@pytest.mark.parametrize("after_ms", [0, 10, 20, 30])
def test_a_port_lost_during_a_test_begins_with_a_test(rig: ContactRig, after_ms: int) -> None:
    rig.run()
    rig.until_pulse()
    rig.tick(after_ms)
    rig.unplug()
    assert rig.reading().quality is Quality.STALE
    rig.replug()
    rig.world.silent = False
    rig.world.stuck = Line.DSR
    rig.tick(200)
    assert rig.reading().quality is Quality.FAULT


def test_a_press_while_the_port_was_away_is_seen_when_it_is_back(rig: ContactRig) -> None:
    rig.run()
    rig.unplug()
    rig.press()
    rig.replug()
    rig.world.silent = False
    rig.tick(200)
    assert (rig.reading().value, rig.reading().quality) == (False, Quality.GOOD)


def test_both_lines_are_low_when_it_is_closed(rig: ContactRig) -> None:
    rig.run()
    rig.device.order("relay_a", True, rig.host.time_ns)
    assert rig.world.plug.driven == Line.DTR | Line.RTS
    rig.device.close()
    assert rig.world.plug.driven == NONE
    assert rig.world.plug.closed
    assert rig.reading().detail == "port away: closed"


def test_it_is_closed_from_within_the_call_that_tells(rig: ContactRig) -> None:
    rig.run()
    rig.host.on_changed = rig.device.close
    rig.press()
    rig.tick(3 * TICK_MS)
    assert rig.world.plug.driven == NONE
    assert not rig.host.watched


def test_bytes_that_nobody_wants_are_thrown_away_and_reported(rig: ContactRig) -> None:
    rig.run()
    rig.world.plug.far.send(b"\x55" * 300)
    rig.host.turn_until(lambda: rig.device.counters["bytes_dropped"] == 300)
    assert rig.host.bad == [
        (rig.device.name, "256 bytes on a port that has only contacts"),
        (rig.device.name, "44 bytes on a port that has only contacts"),
    ]
    assert rig.reading().quality is Quality.GOOD


def test_a_port_that_looks_readable_and_is_not_is_left_alone(rig: ContactRig) -> None:
    rig.run()
    rig.device._on_readable(rig.world.plug)
    assert rig.host.bad == []
    assert rig.reading().quality is Quality.GOOD


def test_words_stay_short_whatever_the_port_says(rig: ContactRig) -> None:
    rig.run()
    rig.world.stuck = Line.CTS | Line.DSR
    rig.tick(10_100)
    rig.device._away = "x" * 100
    rig.host.pass_ms(100)
    assert len(rig.reading().detail) == 120
