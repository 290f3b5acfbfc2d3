"""What goes wrong on the lines: wires, contacts, frames, ports, the robot's software. Each ends in a stop.

Asserted on the robot's motion; and each time the return of the thing alone starts nothing.
"""

import json
import socket
from collections.abc import Callable

import pytest

from agent.core.responses import Response
from hil.node_control import NodeControl
from tests.site.conftest import Scene
from tests.waiting import block_until

Act = Callable[[NodeControl], object]


def cut(node: NodeControl) -> object:
    return node.cut("estop", "a")


def cut_other(node: NodeControl) -> object:
    return node.cut("estop", "b")


def press_welded(node: NodeControl) -> object:
    node.weld("estop", "a")
    return node.press("estop")


def mend(node: NodeControl) -> object:
    """The button is let go before the weld breaks: the contacts agree again, and nothing is proven."""
    node.release("estop")
    node.mend("estop")
    return node.unweld("estop")


@pytest.mark.parametrize("fault", [cut, cut_other, press_welded])
def test_one_contact_of_two(scene: Scene, fault: Act) -> None:
    """A wire cut or a contact welded: a stop at once, and a fault after the discrepancy time.

    Once it looks healthy again the button must be worked before anyone may resume.
    """
    scene.run()
    node = scene.site.node_a.control
    fault(node)
    block_until(lambda: not scene.moving())
    block_until(lambda: scene.causes("reflex").get("input_fault", {}).get("active"))
    assert scene.causes("reflex")["input_fault"]["subject"] == "estop"
    mend(node)
    block_until(lambda: scene.blockers() == ["reset_needed"])
    refused = scene.guardian.resume(retries=5)[-1]
    assert (refused.stage, refused.reason) == ("refused", "reset_needed")
    node.press("estop")
    block_until(lambda: scene.causes("reflex")["estop_pressed"]["active"])
    node.release("estop")
    scene.stays_stopped()
    scene.run()


def silent(node: NodeControl) -> object:
    return node.silent()


def repeating(node: NodeControl) -> object:
    return node.repeat()


def unplugged(node: NodeControl) -> object:
    return node.unplug()


def rebooted(node: NodeControl) -> object:
    return node.reboot()


def faulty(node: NodeControl) -> object:
    return node.faults(0x04)


def well(node: NodeControl) -> None:
    node.silent(on=False)
    node.repeat(on=False)
    node.jam(on=False)
    node.faults(0)
    if not node.state().plugged:
        node.plug()


@pytest.mark.parametrize("fault", [silent, repeating, unplugged, rebooted, faulty])
def test_a_node_that_cannot_be_believed(scene: Scene, fault: Act) -> None:
    scene.run()
    node = scene.site.node_a.control
    fault(node)
    block_until(lambda: not scene.moving())
    assert {"input_stale", "input_fault"} & scene.causes("reflex").keys()
    well(node)
    block_until(lambda: not scene.blockers())
    scene.stays_stopped()
    scene.run()


def test_garbage_between_frames_is_counted_and_neither_stops_nor_starts(scene: Scene) -> None:
    scene.run()
    node = scene.site.node_a.control
    for seed in range(20):
        node.garbage(64, seed)
    device = next(iter(scene.site.ask("reflex")["devices"]))
    block_until(lambda: scene.site.ask("reflex")["devices"][device]["bytes_dropped"] >= 20 * 64)
    node.press("estop")
    block_until(lambda: not scene.moving())
    for seed in range(20):
        node.garbage(200, seed)
    scene.stays_stopped()
    node.release("estop")


@pytest.mark.parametrize(("which", "module"), [("a", "reflex"), ("b", "remote")])
def test_a_relay_that_does_not_open_stops_the_other_channel_too(
    scene: Scene, which: str, module: str
) -> None:
    scene.run()
    node = (scene.site.node_a if which == "a" else scene.site.node_b).control
    node.jam()
    scene.guardian.stop()
    block_until(lambda: scene.causes(module).get("output_fault", {}).get("active"))
    assert scene.response("reflex") is Response.EMERGENCY_STOP
    assert scene.response("remote") is Response.EMERGENCY_STOP
    refused = scene.guardian.resume(retries=5)[-1]
    assert (refused.stage, refused.reason) == ("refused", "cause_active")
    well(node)
    scene.run()


def test_a_relay_that_opens_by_itself_stops_and_does_not_close_by_itself(scene: Scene) -> None:
    scene.run()
    node = scene.site.node_b.control
    node.unplug()
    block_until(lambda: not scene.moving())
    assert "output_fault" in scene.causes("remote")
    node.plug()
    block_until(lambda: not scene.blockers())
    scene.stays_stopped()
    assert not scene.relay("b")
    scene.run()


def test_a_robot_that_hangs_is_stopped(scene: Scene) -> None:
    scene.run()
    scene.site.order("hang")
    block_until(lambda: "robot_hung" in scene.causes("reflex"))
    block_until(lambda: not scene.moving())
    scene.site.order("resume_beats")
    block_until(lambda: not scene.blockers())
    scene.stays_stopped()


def test_a_robot_whose_software_dies_is_stopped_on_both_channels(scene: Scene) -> None:
    scene.run()
    assert scene.site.robot is not None
    scene.site.robot.kill()
    block_until(lambda: not scene.relay("a") and not scene.relay("b"))
    assert "robot_gone" in scene.causes("reflex")
    scene.site.start_robot()
    scene.stays_stopped()


def test_a_robot_that_goes_on_moving_is_not_still(scene: Scene) -> None:
    scene.run()
    scene.site.order("disobey")
    stages = scene.guardian.stop(Response.HOLD)
    assert (stages[-1].stage, stages[-1].reason) == ("failed", "not_verified_in_time")
    block_until(lambda: scene.causes("reflex").get("not_still", {}).get("active"))
    assert scene.response("remote") is Response.EMERGENCY_STOP
    block_until(lambda: not scene.relay("a") and not scene.relay("b"))
    scene.site.order("obey")
    block_until(lambda: not scene.moving())


def test_leaving_the_area_and_an_unlisted_task_stop_the_robot(scene: Scene) -> None:
    for telemetry, cause in (({"x_m": 1000.0}, "out_of_area"), ({"task": "dance"}, "task_not_authorised")):
        scene.run()
        scene.site.order("telemetry", values=telemetry)
        block_until(lambda: cause in scene.causes("reflex"))  # noqa: B023
        block_until(lambda: not scene.moving())
        scene.site.order("telemetry", values={})
        block_until(lambda: not scene.blockers())
        scene.stays_stopped()


def test_a_stranger_on_the_robot_link_changes_nothing(scene: Scene) -> None:
    scene.run()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.connect(str(scene.site.run_folder / "robot.sock"))
        for packet in (b"\xff", b"[1]", b"{}", b'{"type":"beat","n":"x"}', b"[" * 8000, b"y" * 9000):
            stranger.send(packet)
        stranger.send(json.dumps({"type": "event", "kind": "unlawful_content", "detail": "?"}).encode())
        stranger.send(json.dumps({"type": "hello", "name": "second robot", "beat_ms": 20}).encode())
        stranger.settimeout(20)
        assert stranger.recv(9000) == b""
    assert scene.moving()
    assert "unlawful_content" not in scene.causes("reflex")


def test_unlawful_content_stops_generation(scene: Scene) -> None:
    scene.run()
    scene.site.order("event", kind="unlawful_content", detail="测试")
    block_until(lambda: not scene.moving())
    assert "unlawful_content" in scene.causes("reflex")
    scene.stays_stopped()
