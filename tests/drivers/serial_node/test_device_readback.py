"""A relay's state counts only as the answer to the latest order: what was said before is about another."""

import pytest

from tests.drivers.serial_node.rig import NodeRig

RELAY = "relay_a"


@pytest.fixture
def running(rig: NodeRig) -> NodeRig:
    rig.start()
    rig.device.order(RELAY, True, rig.host.time_ns)
    rig.speak(energised=True)
    assert rig.device.readback(RELAY, rig.host.time_ns) is True
    return rig


def test_a_frame_from_before_the_order_is_no_answer(running: NodeRig) -> None:
    running.device.order(RELAY, False, running.host.time_ns)
    assert running.device.readback(RELAY, running.host.time_ns) is None
    running.say()  # on its way while the order was written: echoes an older seq
    assert running.device.readback(RELAY, running.host.time_ns) is None
    running.speak(energised=False)
    assert running.device.readback(RELAY, running.host.time_ns) is False


def test_off_and_on_again_within_one_round_trip_is_no_fault_of_the_relay(running: NodeRig) -> None:
    running.device.order(RELAY, False, running.host.time_ns)
    running.device.order(RELAY, True, running.host.time_ns)
    running.relay = 0
    running.say()  # the answer to what came before both
    assert running.device.readback(RELAY, running.host.time_ns) is None
    running.speak(energised=True)
    assert running.device.readback(RELAY, running.host.time_ns) is True


def test_a_node_that_never_answers_the_order_is_never_believed(running: NodeRig) -> None:
    running.device.order(RELAY, False, running.host.time_ns)
    for _ in range(20):
        running.host.tick(running.device, 10)
        running.say()
    assert running.device.readback(RELAY, running.host.time_ns) is None
