"""The safety node on a real pseudo-terminal: the rules of all drivers, and which frames it believes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.readings import NEVER_READ, Quality
from tests.drivers.hosts import MS
from tests.drivers.rules import InputRig, InputRules, OutputRig, OutputRules
from tests.drivers.serial_node.rig import CLOSED, NodeRig


class TestAsInput(InputRules):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[InputRig]:
        rig = NodeRig(tmp_path)
        yield rig
        rig.release()


class TestAsOutput(OutputRules):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[OutputRig]:
        rig = NodeRig(tmp_path)
        yield rig
        rig.release()


def test_one_frame_alone_is_not_believed_three_in_a_row_are(rig: NodeRig) -> None:
    rig.device.open()
    rig.talk(1)
    assert rig.reading() == replace(NEVER_READ, detail="no new frame")
    rig.talk(1)
    assert rig.reading().quality is Quality.STALE
    assert rig.host.changes == 0
    rig.talk(1)
    assert rig.reading().quality is Quality.GOOD
    assert rig.host.changes == 1
    assert rig.device.counters["frames_unproven"] == 2
    assert rig.device.counters["frames_good"] == 1


@pytest.mark.parametrize(("name", "bit"), [("estop", 0), ("bumper", 15)])
@pytest.mark.parametrize("channel", ["a", "b"])
def test_each_contact_is_its_own_bit_of_its_own_channel(
    rig: NodeRig, name: str, bit: int, channel: str
) -> None:
    rig.start()
    setattr(rig, channel, CLOSED & ~(1 << bit))
    rig.say()
    assert (rig.reading(name).value, rig.reading(name).second) == (channel == "b", channel == "a")
    setattr(rig, channel, 1 << bit)
    rig.say()
    assert (rig.reading(name).value, rig.reading(name).second) == (True, True)


def test_each_input_has_its_own_bound(rig: NodeRig) -> None:
    rig.start()
    rig.host.time_ns += 80 * MS - 1
    assert rig.reading("estop").quality is Quality.STALE
    assert rig.reading("bumper").quality is Quality.GOOD
    rig.host.time_ns += 1
    assert rig.reading("bumper").quality is Quality.STALE


def test_fresh_is_the_strictest_bound(rig: NodeRig) -> None:
    rig.device.open()
    assert not rig.device.fresh(rig.host.time_ns)
    rig.talk(3)
    assert rig.device.fresh(rig.host.time_ns + 50 * MS - 1)
    assert not rig.device.fresh(rig.host.time_ns + 50 * MS)


def test_a_repeated_frame_refreshes_nothing_and_is_reported(rig: NodeRig) -> None:
    rig.start()
    again = rig.frame()
    rig.deliver(again)
    rig.host.pass_ms(49)
    rig.deliver(again)
    rig.host.pass_ms(1)
    assert rig.reading().quality is Quality.STALE
    assert rig.device.counters["frames_repeated"] == 1
    assert rig.host.bad == [(rig.device.name, f"repeated or out of order: seq {rig.seq}")]


def test_a_node_stuck_on_one_seq_goes_stale_and_stays_so(rig: NodeRig) -> None:
    rig.start()
    for _ in range(30):
        rig.seq -= 1
        rig.talk(1)
    assert rig.reading().quality is Quality.STALE
    assert rig.device.counters["frames_good"] == 1


def test_a_replay_of_old_frames_changes_no_value(rig: NodeRig) -> None:
    rig.start()
    old = rig.frame()
    rig.deliver(old)
    rig.show(closed=False)
    rig.deliver(old)
    assert rig.reading().value is False


@pytest.mark.parametrize("start", [0xFFFD, 0x7FFE])
def test_seq_comes_round(rig: NodeRig, start: int) -> None:
    rig.seq = start
    rig.start()
    rig.talk(10)
    assert rig.reading().quality is Quality.GOOD
    assert rig.device.counters["frames_repeated"] == 0


def test_node_ms_comes_round(rig: NodeRig) -> None:
    rig.boot_ns = rig.host.time_ns + 25 * MS
    rig.start()
    rig.talk(10)
    assert rig.node_ms < 1000
    assert rig.reading().quality is Quality.GOOD
    assert rig.device.counters["frames_repeated"] == 0


def test_a_node_that_restarts_is_stale_first_and_heard_afterwards(rig: NodeRig) -> None:
    rig.start()
    rig.talk(100)
    rig.reboot()
    qualities = []
    for _ in range(12):
        rig.talk(1)
        qualities.append(rig.reading().quality)
    # The old frame lasts 50 ms. The fifth of the new ones is the first of its run, the seventh completes it.
    assert qualities == [Quality.GOOD] * 4 + [Quality.STALE] * 2 + [Quality.GOOD] * 6
    assert rig.device.counters["frames_repeated"] == 4


def test_an_unplugged_and_restarted_node_needs_three_frames(rig: NodeRig) -> None:
    rig.start()
    rig.unplug()
    rig.replug()
    rig.host.tick(rig.device, 200)
    rig.reboot()
    rig.talk(2)
    assert rig.reading().quality is Quality.STALE
    rig.talk(1)
    assert rig.reading().quality is Quality.GOOD


def test_what_waited_in_a_buffer_is_as_old_as_it_is(rig: NodeRig) -> None:
    """The agent is frozen for half a second while the node goes on, then dies: its last words are no news."""
    rig.start()
    held = b""
    for _ in range(30):
        rig.host.pass_ms(10)
        held += rig.frame()
    rig.host.pass_ms(200)
    seen: list[Quality] = []
    rig.host.on_changed = lambda: seen.append(rig.reading().quality)
    rig.deliver(held, frames=30)
    assert rig.reading().quality is Quality.STALE
    assert Quality.GOOD not in seen
    rig.talk(3)
    assert rig.reading().quality is Quality.GOOD


def test_contacts_that_bounce_within_one_read_are_all_told(rig: NodeRig) -> None:
    rig.start()
    seen: list[bool | float | None] = []
    rig.host.on_changed = lambda: seen.append(rig.reading().value)
    burst = b""
    for bits in (0, CLOSED, 0, CLOSED):
        rig.a = rig.b = bits
        burst += rig.frame()
    rig.deliver(burst, frames=4)
    assert seen == [False, True, False, True]


@pytest.mark.parametrize(("relay", "known"), [(0, False), (1, True), (2, None), (0xA5, None), (0xFF, None)])
def test_a_relay_byte_that_is_neither_0_nor_1_is_no_answer(
    rig: NodeRig, relay: int, known: bool | None
) -> None:
    rig.start()
    rig.relay = relay
    rig.say()
    assert rig.device.readback("relay_a", rig.host.time_ns) is known


def test_the_fault_byte_is_named(rig: NodeRig) -> None:
    rig.start()
    rig.faults = 0x81
    rig.say()
    assert rig.reading().detail == "node reports faults 0x81"
    rig.host.pass_ms(50)
    assert rig.reading().detail == "node reports faults 0x81, then no new frame"
    assert rig.reading().quality is Quality.FAULT


def test_a_node_that_does_not_hear_us_is_counted_and_still_read(rig: NodeRig) -> None:
    rig.start()
    for _ in range(20):
        rig.host.tick(rig.device, 20)
        rig.say()
    assert rig.reading().quality is Quality.GOOD
    assert rig.device.counters["frames_deaf"] == 5  # the sixteen latest of ours may still be on their way
    rig.echo = rig.await_orders(lambda orders: len(orders) >= 20)[-1].seq
    rig.say()
    assert rig.device.counters["frames_deaf"] == 5
