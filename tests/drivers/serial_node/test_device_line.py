"""The safety node's line: garbage, pieces and floods one way; orders and full buffers the other."""

import pytest

from agent.core.readings import Quality
from drivers.serial_line import READ_BYTES
from drivers.serial_node.codec import LONGEST
from tests.drivers.serial_node.rig import NodeRig
from tests.drivers.wire import AGENT_LENGTH, AgentWords, seal, unstuff


def test_one_byte_at_a_time(rig: NodeRig) -> None:
    rig.start()
    rig.a = 0
    for byte in rig.frame():
        assert rig.reading().value is True
        rig.feed(bytes([byte]))
    assert rig.reading().value is False
    assert rig.host.bad == []


def test_garbage_between_frames_costs_only_itself(rig: NodeRig) -> None:
    rig.start()
    noise = bytes(range(1, 200))
    rig.deliver(noise + b"\0" + rig.frame(), frames=2)
    assert rig.device.counters["frames_malformed"] == 1
    assert rig.device.counters["bytes_dropped"] == len(noise)
    assert rig.reading().quality is Quality.GOOD


def test_garbage_that_runs_into_a_frame_takes_that_one_along(rig: NodeRig) -> None:
    rig.start()
    rig.deliver(b"\x07\x07" + rig.frame() + rig.frame(), frames=2)
    assert (rig.device.counters["frames_malformed"], rig.device.counters["frames_good"]) == (1, 2)


def test_idle_delimiters_are_nothing(rig: NodeRig) -> None:
    rig.start()
    rig.deliver(b"\0\0\0" + rig.frame() + b"\0\0" + rig.frame(), frames=2)
    assert rig.device.counters["frames_good"] == 3
    assert rig.host.bad == []


def test_a_wrong_crc_is_counted_apart(rig: NodeRig) -> None:
    rig.start()
    body = unstuff(rig.frame()[:-1])[:-4]
    rig.deliver(seal(body, crc_xor=1))
    assert rig.device.counters["frames_bad_crc"] == 1
    assert rig.device.counters["frames_malformed"] == 0
    assert rig.host.bad == [(rig.device.name, "wrong CRC-32")]


def test_the_end_of_a_frame_that_began_before_us_is_nobody_s_fault(rig: NodeRig) -> None:
    rig.device.open()
    rig.feed(rig.frame()[9:])
    rig.talk(3)
    assert rig.reading().quality is Quality.GOOD
    assert rig.device.counters["frames_malformed"] == 0
    assert rig.device.counters["bytes_dropped"] == 12
    assert rig.host.bad == []


def test_a_flood_without_end_costs_no_memory_and_ends_with_the_flood(rig: NodeRig) -> None:
    rig.start()
    for _ in range(64):
        rig.feed(b"\x55" * 4000)
    assert rig.device.counters["bytes_dropped"] == 64 * 4000 - LONGEST - 1
    rig.deliver(b"\0" + rig.frame(), frames=2)
    assert rig.reading().quality is Quality.GOOD
    assert rig.device.counters["bytes_dropped"] == 64 * 4000
    assert rig.device.counters["frames_malformed"] == 1


def test_one_wake_up_takes_a_bounded_bite(rig: NodeRig) -> None:
    rig.start()
    rig.arrive(b"\x55" * 4000)
    rig.host.turn()
    assert rig.end.unread() == 4000 - READ_BYTES
    assert rig.device.counters["bytes_dropped"] == READ_BYTES - LONGEST - 1


def test_a_frame_every_20_ms_with_the_seq_last_heard(rig: NodeRig) -> None:
    rig.start()
    rig.host.tick(rig.device, 100)
    orders = rig.await_orders(lambda orders: len(orders) == 5)
    assert [(order.version, order.kind, order.zero) for order in orders] == [(1, 2, 0)] * 5
    assert [order.seq for order in orders] == [1, 2, 3, 4, 5]
    assert {order.echo for order in orders} == {rig.seq}
    assert {order.energise for order in orders} == {0}


def test_the_first_frame_ends_whatever_half_frame_is_on_the_wire(rig: NodeRig) -> None:
    rig.start()
    rig.host.tick(rig.device, 40)
    rig.await_orders(lambda orders: len(orders) == 2)
    first, second, third, rest = rig.end.heard.split(b"\0")
    assert (len(first), len(second), len(third), len(rest)) == (0, AGENT_LENGTH, AGENT_LENGTH, 0)


def test_before_anything_is_heard_the_echo_is_0(rig: NodeRig) -> None:
    rig.device.open()
    rig.device.tick(rig.host.time_ns)
    assert rig.await_orders(bool)[0].echo == 0


def test_a_node_that_is_not_proven_yet_gets_its_echo(rig: NodeRig) -> None:
    """Otherwise neither side could be the first to believe the other."""
    rig.device.open()
    rig.talk(1)
    rig.device.tick(rig.host.time_ns)
    assert rig.await_orders(bool)[-1].echo == rig.seq


def test_a_repeated_frame_gets_no_echo(rig: NodeRig) -> None:
    rig.start()
    old = rig.frame()
    rig.deliver(old)
    rig.talk(1)
    rig.deliver(old)
    rig.device.tick(rig.host.time_ns)
    assert rig.await_orders(bool)[-1].echo == rig.seq


def test_the_same_order_again_writes_nothing(rig: NodeRig) -> None:
    rig.start()
    for energise in (False, True, True, True, False, False):
        rig.device.order("relay_a", energise, rig.host.time_ns)
    orders = rig.await_orders(lambda orders: len(orders) >= 2)
    assert [order.energise for order in orders] == [0xA5, 0]


def test_an_energised_node_is_told_so_every_time(rig: NodeRig) -> None:
    rig.start()
    rig.device.order("relay_a", True, rig.host.time_ns)
    rig.host.tick(rig.device, 100)
    orders = rig.await_orders(lambda orders: len(orders) == 6)
    assert {order.energise for order in orders} == {0xA5}


def test_our_seq_comes_round(rig: NodeRig) -> None:
    rig.start()
    rig.device._seq = 0xFFFE
    rig.host.tick(rig.device, 60)
    orders = rig.await_orders(lambda orders: len(orders) == 3)
    assert [order.seq for order in orders] == [0xFFFF, 0, 1]


def stall(rig: NodeRig) -> int:
    """Nobody reads the far end until the kernel takes no more; the number of frames that it took."""
    rig.torn = True
    taken = 0
    while rig.device.counters["writes_dropped"] == 0:
        rig.host.pass_ms(20)
        rig.device.tick(rig.host.time_ns)
        taken += 1
        assert taken < 50_000
    return taken - 1


def test_a_full_buffer_drops_frames_and_counts_them(rig: NodeRig) -> None:
    rig.start()
    rig.device.order("relay_a", True, rig.host.time_ns)
    taken = stall(rig)
    # Due again at every tick. The kernel moves what it holds about meanwhile, and may find room for more.
    for _ in range(taken):
        rig.host.tick(rig.device, 10)
    assert rig.device.counters["writes_dropped"] > taken / 2
    last = rig.device._seq

    def goes_on(orders: list[AgentWords]) -> bool:
        rig.host.tick(rig.device, 10)
        return bool(orders) and orders[-1].seq > last

    assert rig.await_orders(goes_on)[-1].energise == 0xA5


def test_an_order_to_de_energise_overtakes_what_a_stalled_line_holds(rig: NodeRig) -> None:
    rig.start()
    rig.device.order("relay_a", True, rig.host.time_ns)
    taken = stall(rig)
    dropped = rig.device.counters["writes_dropped"]
    rig.device.order("relay_a", False, rig.host.time_ns)
    assert rig.device.counters["writes_dropped"] == dropped
    orders = rig.await_orders(lambda orders: bool(orders) and orders[-1].energise == 0)
    assert orders[-1].seq == rig.device._seq
    assert len(orders) < taken / 2
    rig.device.tick(rig.host.time_ns)
    assert rig.device._seq == orders[-1].seq, "what went out whole is not due again"


@pytest.mark.parametrize("energise", [True, False])
def test_an_order_that_found_no_room_is_due_at_the_next_tick(rig: NodeRig, energise: bool) -> None:
    rig.start()
    rig.host.tick(rig.device, 20)
    rig.device.order("relay_a", not energise, rig.host.time_ns)
    rig.end.hold(stopped=True)
    rig.device.order("relay_a", energise, rig.host.time_ns)
    assert rig.device.counters["writes_dropped"] == 1
    rig.end.hold(stopped=False)
    rig.device.tick(rig.host.time_ns)
    last = rig.device._seq
    orders = rig.await_orders(lambda orders: bool(orders) and orders[-1].seq == last)
    assert orders[-1].energise == (0xA5 if energise else 0)
