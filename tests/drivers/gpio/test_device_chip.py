"""The chip itself: away, swapped, held by others, gone at every moment, closed."""

import pytest

from agent.core.readings import Quality
from drivers.gpio.lines import EDGES_MOST
from tests.drivers.gpio.rig import ChipRig, ContactRig, RelayRig
from tests.drivers.hosts import MS


def attempts_ms(rig: ChipRig, during_ms: int) -> list[int]:
    """When the device tried to open its chip while time passed, from now."""
    began_ns = rig.host.time_ns
    tried: list[int] = []
    for _ in range(during_ms // 10):
        before = rig.board.opened
        rig.host.tick(rig.device, 10)
        tried += [(rig.host.time_ns - began_ns) // MS] * (rig.board.opened - before)
    return tried


def test_attempts_to_reopen_are_spaced_out(rig: ContactRig) -> None:
    rig.start()
    rig.unplug()
    assert attempts_ms(rig, 8_000) == [100, 300, 700, 1_500, 3_100, 5_100, 7_100]
    assert rig.reading().detail == "lines away: No such file or directory"


def test_only_a_level_makes_the_waits_short_again(rig: ContactRig) -> None:
    rig.start()
    rig.unplug()
    rig.replug()
    assert attempts_ms(rig, 100) == [100]
    assert rig.device.counters["reopens"] == 1
    rig.unplug()
    assert attempts_ms(rig, 600) == [200, 600]
    rig.replug()
    assert attempts_ms(rig, 800) == [800]
    rig.glance()
    rig.unplug()
    assert attempts_ms(rig, 300) == [100, 300]


# ----------------------------------------------------------------------------------------- held by somebody


def test_a_line_that_another_process_holds_is_named_and_tried_again(rig: ContactRig) -> None:
    rig.board.own(4, "gpio-keys")
    rig.device.open()
    rig.glance()
    reading = rig.reading()
    assert (reading.quality, reading.value) == (Quality.STALE, None)
    assert reading.detail == "lines away: line 4 is held by 'gpio-keys'"
    rig.ticks(400)
    assert rig.host.bad == [("gpio /dev/gpiochip7", "line 4 is held by 'gpio-keys'")], "said once"
    rig.board.own(4, "")
    rig.ticks(200)
    assert rig.reading().quality is Quality.GOOD


def test_it_is_the_line_that_is_held_and_not_its_neighbour(pair: ContactRig) -> None:
    pair.board.own(5, "a" * 31)
    pair.device.open()
    detail = pair.reading().detail
    assert detail == f"lines away: line 5 is held by '{'a' * 31}'"
    assert len(detail) <= 120


@pytest.mark.parametrize(("owner", "said"), [("", "'somebody unnamed'"), ("\x1b[2J盗", "'\\x1b[2J\\u76d7'")])
def test_whatever_a_holder_calls_itself_is_printable(rig: ContactRig, owner: str, said: str) -> None:
    rig.start()
    other = ChipRig({"estop": {"line": 4}})
    other.board.pins[4].held = rig.board.request(4)
    other.board.own(4, owner)
    other.device.open()
    assert other.reading().detail == f"lines away: line 4 is held by {said}"


def test_a_line_let_go_between_the_refusal_and_the_question(
    rig: ContactRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.board.own(4, "gpio-keys")
    open_chip = rig.board.open_chip

    def let_go(path: str) -> object:
        chip = open_chip(path)
        ask = chip.get_line_info

        def free(line: int | str) -> object:
            rig.board.own(4, "")
            return ask(line)

        monkeypatch.setattr(chip, "get_line_info", free)
        return chip

    monkeypatch.setattr(rig.device._holds[0].lines, "_open_chip", let_go)
    rig.device.open()
    assert rig.reading().detail == "lines away: line 4 was held by somebody who let go just now"


def test_a_held_relay_line_leaves_the_contacts_alone() -> None:
    rig = ChipRig({"estop": {"line": 4}}, {"relay_a": {"line": 20}})
    rig.board.drive(4, True)
    rig.board.own(20, "leds")
    rig.start()
    rig.order(True)
    assert rig.reading().quality is Quality.GOOD
    assert rig.readback() is None
    assert rig.host.bad == [("gpio /dev/gpiochip7", "line 20 is held by 'leds'")]
    rig.board.own(20, "")
    rig.ticks(20)
    assert rig.readback() is False, "what was ordered while it was away is no order"
    rig.release()


# ----------------------------------------------------------------------------------------- another chip here


def test_another_chip_at_the_path_is_refused() -> None:
    rig = ChipRig({"estop": {"line": 4, "label": "board"}}, {"relay_a": {"line": 20, "label": "board"}})
    rig.board.drive(4, True)
    rig.start()
    assert rig.reading().quality is Quality.GOOD
    rig.unplug()
    rig.replug()
    rig.board.label = "usb-expander"
    rig.ticks(50)
    assert rig.reading().detail == "lines away: the chip here is 'usb-expander', not 'board'"
    assert rig.board.held == []
    assert rig.host.bad == [(rig.device.name, "the chip here is 'usb-expander', not 'board'")] * 2
    rig.board.label = "board"
    rig.ticks(200)
    assert rig.reading().quality is Quality.GOOD
    rig.release()


# -------------------------------------------------------------------------------------- gone, at each moment


def test_a_chip_that_goes_takes_every_line_and_tells_once() -> None:
    rig = ChipRig({"estop": {"line": 4}, "door": {"line": 6}}, {"relay_a": {"line": 20, "readback_line": 21}})
    rig.start()
    rig.order(True)
    before = rig.host.changes
    rig.board.unplug()
    rig.wake()
    assert rig.host.changes == before + 1
    assert not rig.host.watched
    assert [rig.reading(name).detail for name in ("estop", "door")] == ["lines away: No such device"] * 2
    assert rig.readback() is None
    rig.release()


def test_a_chip_that_goes_is_seen_by_the_next_look_too(rig: ContactRig) -> None:
    rig.start()
    before = rig.host.changes
    rig.board.unplug()
    rig.glance(10)
    assert rig.reading().quality is Quality.STALE
    assert rig.host.changes == before + 1
    assert not rig.host.watched


def test_a_chip_that_goes_while_it_is_opened(rig: ContactRig, monkeypatch: pytest.MonkeyPatch) -> None:
    open_chip = rig.board.open_chip

    def gone(path: str) -> object:
        chip = open_chip(path)
        ask = chip.request_lines

        def request(*args: object, **more: object) -> object:
            made = ask(*args, **more)  # type: ignore[arg-type]
            rig.board.unplug()
            return made

        monkeypatch.setattr(chip, "request_lines", request)
        return chip

    monkeypatch.setattr(rig.device._holds[0].lines, "_open_chip", gone)
    rig.device.open()
    assert rig.reading().detail == "lines away: No such device"
    assert not rig.host.watched


def test_a_chip_lost_while_ordering_is_told_at_the_next_tick(relay: RelayRig) -> None:
    """The module is acting when it orders: telling it then would turn its loop inside itself."""
    relay.start()
    before = relay.host.changes
    relay.board.unplug()
    relay.order(True)
    assert relay.readback() is None
    assert relay.host.changes == before
    relay.host.tick(relay.device, 10)
    assert relay.host.changes == before + 1
    assert relay.device.counters["writes_failed"] == 1


def test_a_chip_that_comes_back_ends_no_loss_by_itself(relay: RelayRig) -> None:
    relay.start()
    relay.order(True)
    relay.unplug()
    relay.replug()
    relay.ticks(300)
    assert (relay.readback(), relay.orders) == (False, [False])


def test_levels_that_cannot_be_read_are_old_levels(rig: ContactRig) -> None:
    rig.start()
    rig.host.tick(rig.device, 90)
    assert rig.reading().quality is Quality.GOOD
    rig.host.tick(rig.device, 10)
    assert (rig.reading().quality, rig.reading().value) == (Quality.STALE, True)
    assert rig.reading().detail == "level not read: Remote I/O error"
    assert rig.device.counters["reads_failed"] >= 10
    before = rig.host.changes
    rig.glance(10)
    assert rig.reading().quality is Quality.GOOD
    assert rig.host.changes == before + 1


# ----------------------------------------------------------------------------------------- edges and the loop


def test_an_edge_is_stamped_by_the_kernel(rig: ContactRig) -> None:
    rig.start()
    rig.host.pass_ms(3)
    pressed_ns = rig.host.time_ns
    rig.put(closed=False)
    rig.host.pass_ms(4)
    rig.wake()
    assert (rig.reading().value, rig.reading().taken_ns) == (False, pressed_ns)


@pytest.mark.parametrize(("line", "seen"), [(4, (False, True)), (5, (True, False))])
def test_each_channel_is_its_own(pair: ContactRig, line: int, seen: tuple[bool, bool]) -> None:
    pair.start()
    pair.put(closed=False, line=line)
    pair.wake()
    assert (pair.reading().value, pair.reading().second) == seen


def test_a_press_within_one_read_is_seen_by_the_module(pair: ContactRig) -> None:
    pair.start()
    seen: list[tuple[object, object]] = []
    pair.host.on_changed = lambda: seen.append((pair.reading().value, pair.reading().second))
    pair.put(closed=False)
    pair.put(closed=True)
    pair.wake()
    assert seen == [(False, False), (True, True)]


def test_a_press_too_short_for_the_kernel_is_seen_by_the_module(rig: ContactRig) -> None:
    rig.start()
    seen: list[object] = []
    rig.host.on_changed = lambda: seen.append(rig.reading().value)
    rig.board.flick(4)
    rig.wake()
    assert seen == [False, True]


def test_a_wake_up_for_nothing_changes_nothing(rig: ContactRig) -> None:
    rig.start()
    before = rig.reading()
    rig.board.request(4).wake()
    rig.wake()
    assert rig.reading() == before


def test_a_change_without_an_edge_is_seen_by_the_next_look(rig: ContactRig) -> None:
    rig.start()
    before = rig.host.changes
    rig.board.pins[4].driven = False  # the interrupt is lost
    rig.glance(10)
    assert rig.reading().value is False
    assert rig.host.changes == before + 1
    assert rig.device.counters["looks_ahead"] == 1


def test_lost_edges_are_counted_and_the_level_is_read_again(rig: ContactRig) -> None:
    rig.start()
    rig.board.request(4).edge(4, high=True, at_ns=rig.host.time_ns, skip=3)
    seen: list[object] = []
    rig.host.on_changed = lambda: seen.append(rig.reading().value)
    rig.wake()
    assert seen == [False, True]
    assert rig.device.counters["edges_lost"] == 3
    assert rig.host.bad == [(rig.device.name, "line 4: edges lost before number 4")]


def test_numbers_that_come_round_are_no_loss(rig: ContactRig) -> None:
    rig.start()
    rig.show(closed=False)
    rig.board.request(4).count_from(4, 0x7FFFFFFE)
    rig.show(closed=True)
    lost = rig.device.counters["edges_lost"]
    for closed in (False, True, False, True):
        rig.show(closed=closed)
    assert rig.device.counters["edges_lost"] == lost


def test_a_chattering_line_has_not_the_loop_to_itself(rig: ContactRig) -> None:
    rig.start()
    rig.break_down()
    assert rig.reading().detail == "chatters"
    assert not rig.host.watched, "the rest can wait for the next tick"
    rig.glance(10)
    assert rig.host.watched
    rig.host.pass_ms(100)
    rig.glance()
    assert rig.reading().quality is Quality.GOOD


def test_a_line_that_is_busy_in_every_tick_does_not_chatter(rig: ContactRig) -> None:
    rig.start()
    for _ in range(5):
        for number in range(EDGES_MOST - 2):
            rig.put(closed=bool(number % 2))
        rig.wake()
        rig.glance(10)
        assert rig.reading().quality is Quality.GOOD


def test_a_queue_that_ran_over_is_a_fault(rig: ContactRig) -> None:
    rig.start()
    for number in range(10 * EDGES_MOST):
        rig.put(closed=bool(number % 2))
    assert rig.board.request(4).queued == EDGES_MOST
    rig.wake()
    assert rig.reading().quality is Quality.FAULT
    assert rig.device.counters["edges_lost"] == 9 * EDGES_MOST


def test_a_line_that_chatters_and_goes_away_stays_broken(rig: ContactRig) -> None:
    rig.start()
    rig.break_down()
    rig.board.unplug()
    rig.glance(10)
    assert rig.reading().quality is Quality.FAULT
    assert rig.reading().detail == "chatters, then lines away: No such device"


def test_a_queue_that_cannot_be_read_costs_that_contact_alone() -> None:
    rig = ChipRig({"estop": {"line": 4}, "door": {"line": 6}})
    rig.start()
    rig.board.request(4).broken = True
    rig.board.request(4).wake()
    rig.wake()
    assert rig.reading("estop").detail == "lines away: Input/output error"
    assert rig.reading("door").quality is Quality.GOOD
    rig.ticks(20)
    assert rig.reading("estop").quality is Quality.GOOD
    rig.release()


def test_close_within_the_call_that_tells_ends_the_burst(rig: ContactRig) -> None:
    rig.start()
    rig.host.on_changed = rig.device.close
    rig.put(closed=False)
    rig.put(closed=True)
    rig.wake()
    assert rig.reading().value is False
    assert (rig.host.watched, rig.board.held) == (frozenset(), [])


def test_a_closed_device_has_let_go_of_every_line() -> None:
    rig = ChipRig({"estop": {"line": 4, "line_b": 5}}, {"relay_a": {"line": 20, "readback_line": 21}})
    rig.start()
    assert rig.board.held == [4, 5, 20, 21]
    assert rig.board.chips
    assert all(chip.closed for chip in rig.board.chips), "a request needs no open chip"
    rig.device.close()
    assert rig.board.held == []
    assert rig.reading().detail == "lines away: closed"
