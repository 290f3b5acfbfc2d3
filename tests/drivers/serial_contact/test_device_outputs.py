"""What is driven on modem lines: the contacts' supply and the relay, and who else may drive them."""

import pytest

from agent.core.readings import Quality
from drivers.registry import Wanted
from drivers.serial_contact.device import build
from drivers.serial_contact.lines import Line
from tests.drivers.hosts import MS, FakeHost
from tests.drivers.serial_contact.rig import TICK_MS, ContactRig
from tests.drivers.serial_contact.world import PATH, World

# ----------------------------------------------------------------------------- lines that are not as driven


def test_a_supply_that_somebody_else_drops_is_put_right_and_no_press(rig: ContactRig) -> None:
    rig.run()
    before = rig.host.changes
    rig.world.lag_ns = 15 * MS
    rig.world.plug.set_by_somebody(Line.DTR, high=False)
    rig.host.pass_ms(15)
    rig.tick(50)
    assert rig.device.counters["lines_put_right"] == 1
    assert rig.host.changes == before
    assert (rig.reading().value, rig.reading().quality) == (True, Quality.GOOD)


def test_a_supply_that_cannot_be_had_is_a_silence(rig: ContactRig) -> None:
    rig.run()
    rig.world.deaf = True
    rig.world.plug.set_by_somebody(Line.DTR, high=False)
    rig.tick(200)
    assert rig.reading().quality is Quality.STALE
    assert rig.device.counters["writes_failed"] > 0
    rig.world.deaf = False
    rig.tick(50)
    assert rig.reading().quality is Quality.GOOD


def test_a_pulse_that_is_not_driven_finds_nothing(rig: ContactRig) -> None:
    """Were the supply still on, every closed contact would look stuck."""
    rig.run()
    rig.world.deaf = True
    rig.tick(10_100)
    assert rig.reading().quality is Quality.STALE
    rig.world.deaf = False
    rig.tick(50)
    assert rig.reading().quality is Quality.GOOD
    assert rig.device.counters["line_tests_failed"] == 0


def test_a_relay_that_somebody_else_energises_drops_with_the_next_tick(rig: ContactRig) -> None:
    rig.run()
    rig.world.plug.set_by_somebody(Line.RTS, high=True)
    rig.tick(TICK_MS)
    assert Line.RTS not in rig.world.plug.driven
    assert rig.device.counters["lines_put_right"] == 1


def test_a_relay_that_is_fought_over_hides_no_press(rig: ContactRig) -> None:
    rig.run()
    rig.press()
    for _ in range(3):
        rig.world.plug.set_by_somebody(Line.RTS, high=True)
        rig.tick(TICK_MS)
    assert (rig.reading().value, rig.reading().quality) == (False, Quality.GOOD)


def test_an_order_is_driven_once_however_often_it_is_given(rig: ContactRig) -> None:
    rig.run()
    for energise in (False, True, True, True, False, False):
        rig.device.order("relay_a", energise, rig.host.time_ns)
    assert rig.world.plug.driven_since_plugged(Line.RTS) == [False, True, False]


def test_an_order_that_moves_nothing_yet_is_not_told(rig: ContactRig) -> None:
    rig.run()
    before = rig.host.changes
    rig.device.order("relay_a", True, rig.host.time_ns)
    rig.tick(50)
    assert rig.host.changes == before


def test_an_order_that_the_port_did_not_take_is_due_again(rig: ContactRig) -> None:
    rig.run()
    rig.device.order("relay_a", True, rig.host.time_ns)
    rig.world.deaf = True
    rig.device.order("relay_a", False, rig.host.time_ns)
    assert Line.RTS in rig.world.plug.driven
    rig.world.deaf = False
    rig.tick(TICK_MS)
    assert Line.RTS not in rig.world.plug.driven


# ------------------------------------------------------------------------------------------------- the relay


def test_a_pulse_changes_no_read_back(rig: ContactRig) -> None:
    rig.run()
    rig.device.order("relay_a", True, rig.host.time_ns)
    rig.world.mirror = True
    rig.tick(TICK_MS)
    for _ in range(2_100):
        rig.tick(TICK_MS)
        assert rig.readback() is True
    assert rig.device.counters["line_tests"] == 3


def test_a_mirror_that_is_live_without_its_supply_says_nothing(rig: ContactRig) -> None:
    rig.run()
    rig.world.stuck = Line.DCD
    rig.tick(10_100)
    assert rig.readback() is None
    assert rig.reading().quality is Quality.GOOD


def test_without_a_mirror_the_port_s_own_word_is_all_there_is() -> None:
    rig = ContactRig(readback="none")
    rig.run()
    assert rig.readback() is False
    rig.device.order("relay_a", True, rig.host.time_ns)
    rig.tick(TICK_MS)
    assert rig.readback() is True
    rig.world.deaf = True
    rig.device.order("relay_a", False, rig.host.time_ns)
    rig.tick(TICK_MS)
    assert rig.readback() is True
    rig.release()


@pytest.mark.parametrize(("readback", "supplied"), [("none", False), ("dcd", True), ("ri", True)])
def test_a_port_without_contacts_is_supplied_only_where_a_mirror_needs_it(
    readback: str, supplied: bool
) -> None:
    host = FakeHost()
    world = World(host)
    settings: dict[str, object] = {"port": PATH, "readback": readback, "stale_ms": 100}
    device = build(PATH, [], [Wanted("relay_a", settings)], host, open_port=world.open)
    device.open()
    host.tick(device, 30_000)
    assert (Line.DTR in world.plug.driven) is supplied
    assert device.readback("relay_a", host.time_ns) is False
    assert world.plug.driven_since_plugged(Line.DTR) == ([False, True] if supplied else [False])
    device.close()


def test_an_order_given_while_the_port_is_away_is_carried_out_when_it_is_there(rig: ContactRig) -> None:
    """As with every driver: the return alone energises nothing, an order does."""
    rig.run()
    rig.device.order("relay_a", True, rig.host.time_ns)
    rig.unplug()
    rig.device.order("relay_a", True, rig.host.time_ns)
    rig.replug()
    rig.tick(200)
    assert Line.RTS in rig.world.plug.driven
