"""A relay's drive: levels, pulse trains, writes that fail, and what a read-back proves."""

from tests.drivers.gpio.rig import ChipRig, RelayRig
from tests.drivers.hosts import MS


def test_an_order_that_is_repeated_is_written_once(relay: RelayRig) -> None:
    relay.start()
    for _ in range(5):
        relay.order(True)
        relay.ticks(1)
    assert relay.orders == [False, True]


def test_two_relays_are_ordered_apart() -> None:
    rig = ChipRig(outputs={"relay_a": {"line": 20}, "relay_b": {"line": 22}})
    rig.start()
    rig.order(True, "relay_b")
    assert (rig.board.orders(20), rig.board.orders(22)) == ([False], [False, True])
    rig.order(True, "relay_a")
    rig.device.close()
    assert (rig.board.orders(20)[-1], rig.board.orders(22)[-1]) == (False, False)


def test_its_own_level_proves_the_drive() -> None:
    relay = RelayRig()
    relay.board.drive(20, None)  # nobody holds the line down
    relay.start()
    relay.order(True)
    relay.ticks(1)
    assert relay.readback() is True
    relay.board.drive(20, False)  # shorted to ground
    relay.ticks(1)
    assert relay.readback() is False
    relay.release()


def test_an_output_s_own_changes_are_not_taken_for_lost_edges() -> None:
    relay = RelayRig()
    relay.board.drive(20, None)
    relay.start()
    for energise in (True, False, True):
        relay.order(energise)
        relay.ticks(1)
    assert relay.device.counters["looks_ahead"] == 0
    relay.release()


def test_relays_are_dropped_before_anything_is_given_back(relay: RelayRig) -> None:
    relay.start()
    relay.order(True)
    seen: list[list[bool]] = []
    release = relay.board.request(21).release

    def note() -> None:
        seen.append(list(relay.orders))
        release()

    relay.board.request(21).release = note  # type: ignore[method-assign]
    relay.device.close()
    assert seen[0][-1] is False


def test_a_mirror_contact_that_chatters_is_not_known(relay: RelayRig) -> None:
    relay.start()
    for number in range(64):
        relay.shows(energised=not number % 2)
    relay.wake()
    assert relay.readback() is None


def test_the_mirror_is_believed_while_the_drive_is_away(relay: RelayRig) -> None:
    """A welded relay must be seen also when its drive cannot be had."""
    relay.board.own(20, "leds")
    relay.shows(energised=True)
    relay.start()
    assert relay.readback() is True


# ------------------------------------------------------------------------------------------ writes that fail


def test_a_drop_that_could_not_be_written_is_tried_at_every_tick(relay: RelayRig) -> None:
    relay.start()
    relay.order(True)
    relay.board.writable = False
    relay.order(False)
    relay.ticks(3)
    assert relay.orders == [False, True]
    assert relay.device.counters["writes_failed"] == 4
    relay.board.writable = True
    relay.ticks(1)
    assert relay.orders == [False, True, False]
    relay.ticks(3)
    assert relay.orders == [False, True, False]


def test_an_order_that_could_not_be_written_is_tried_when_it_is_given_again(relay: RelayRig) -> None:
    relay.start()
    relay.board.writable = False
    relay.order(True)
    relay.board.writable = True
    relay.ticks(3)
    assert relay.orders == [False], "a tick energises nothing"
    relay.order(True)
    assert relay.orders == [False, True]


def test_a_drop_overtakes_an_order_that_could_not_be_written(relay: RelayRig) -> None:
    relay.start()
    relay.board.writable = False
    relay.order(True)
    relay.board.writable = True
    relay.order(False)
    relay.ticks(3)
    assert relay.orders == [False, False]


def test_a_drop_that_fails_at_the_close_is_counted_and_tried_once_more(relay: RelayRig) -> None:
    relay.start()
    relay.order(True)
    relay.board.writable = False
    relay.device.close()
    assert relay.device.counters["writes_failed"] == 2
    assert relay.board.held == []


# ------------------------------------------------------------------------------------------ pulse trains


def run(pulse: RelayRig, turns: int) -> None:
    """The deciding loop: a tick, then the order, as `agent.reflex` turns."""
    for _ in range(turns):
        pulse.ticks(1)
        pulse.order(True)


def test_a_pulse_train_toggles_at_every_tick(pulse: RelayRig) -> None:
    pulse.start()
    pulse.order(True)
    pulse.order(True)
    run(pulse, 6)
    assert pulse.orders == [False, True, False, True, False, True, False, True]


def test_a_longer_toggle_waits_for_its_time() -> None:
    pulse = RelayRig(mode="pulse", readback_line=21, toggle_ms=30)
    pulse.start()
    run(pulse, 10)
    assert pulse.orders == [False, True, False, True, False]
    pulse.release()


def test_a_tick_that_comes_a_little_early_still_toggles(pulse: RelayRig) -> None:
    pulse.start()
    pulse.order(True)
    pulse.order(True)
    pulse.host.time_ns += 6 * MS
    pulse.device.tick(pulse.host.time_ns)
    assert pulse.orders == [False, True, False]


def test_ticks_on_top_of_each_other_do_not(pulse: RelayRig) -> None:
    pulse.start()
    for _ in range(4):
        pulse.order(True)
        pulse.host.time_ns += 1 * MS
        pulse.device.tick(pulse.host.time_ns)
    assert pulse.orders == [False, True]


def test_a_late_tick_toggles_once(pulse: RelayRig) -> None:
    pulse.start()
    run(pulse, 2)
    before = len(pulse.orders)
    pulse.host.pass_ms(500)
    run(pulse, 1)
    assert len(pulse.orders) == before + 1


def test_a_frozen_process_leaves_the_line_as_it_is(pulse: RelayRig) -> None:
    pulse.start()
    run(pulse, 5)
    before = list(pulse.orders)
    pulse.host.pass_ms(10_000)
    assert pulse.orders == before


def test_a_loop_that_ticks_and_does_not_decide_leaves_the_line_as_it_is(pulse: RelayRig) -> None:
    pulse.start()
    run(pulse, 5)
    pulse.ticks(1)  # the toggle that the last decision allowed
    before = list(pulse.orders)
    pulse.ticks(100)
    assert pulse.orders == before


def test_a_drop_ends_the_train_at_once_and_low(pulse: RelayRig) -> None:
    pulse.start()
    run(pulse, 4)
    pulse.order(False)
    assert pulse.orders[-1] is False
    before = list(pulse.orders)
    pulse.ticks(50)
    assert pulse.orders == before


def test_a_train_is_read_back_at_the_mirror_alone(pulse: RelayRig) -> None:
    pulse.start()
    run(pulse, 5)
    assert pulse.readback() is False
    pulse.speak(energised=True)
    assert pulse.readback() is True
    before = pulse.host.changes
    run(pulse, 5)
    assert pulse.host.changes == before, "its own toggles are no news"


def test_a_toggle_that_could_not_be_written_stops_the_train_until_the_next_order(pulse: RelayRig) -> None:
    pulse.start()
    run(pulse, 3)
    pulse.board.writable = False
    pulse.ticks(1)
    pulse.board.writable = True
    before = len(pulse.orders)
    pulse.ticks(5)
    assert len(pulse.orders) == before
    run(pulse, 3)
    assert pulse.orders[before:] == [True, False]


def test_close_ends_the_train_low(pulse: RelayRig) -> None:
    pulse.start()
    run(pulse, 4)
    pulse.device.close()
    assert pulse.orders[-1] is False
    assert pulse.board.held == []
