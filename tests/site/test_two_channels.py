"""Each module stops the robot with the other killed, frozen or talking nonsense (clause 5.5(b)).

Asserted on the simulated robot's motion and on the nodes' relays, never on a state variable.
"""

import pytest

from agent.core.responses import Response
from tests.site.conftest import Scene
from tests.waiting import block_until


def test_starts_stopped_with_both_relays_open(scene: Scene) -> None:
    scene.stays_stopped()
    assert not scene.relay("a")
    assert not scene.relay("b")


def test_runs_after_a_resume_with_both_relays_closed(scene: Scene) -> None:
    scene.run()
    assert scene.relay("a")
    assert scene.relay("b")


def test_estop_stops_and_drops_both_relays(scene: Scene) -> None:
    scene.run()
    pressed = scene.site.node_a.control.press("estop")
    scene.stopped(pressed.at_ns)
    block_until(lambda: not scene.relay("a") and not scene.relay("b"))
    assert scene.causes("reflex")["estop_pressed"]["active"]


def test_resume_is_refused_while_pressed_and_release_alone_starts_nothing(scene: Scene) -> None:
    scene.run()
    scene.site.node_a.control.press("estop")
    block_until(lambda: not scene.moving())
    stages = scene.guardian.resume("test", retries=5)
    assert (stages[-1].stage, stages[-1].reason) == ("refused", "cause_active")
    scene.site.node_a.control.release("estop")
    scene.stays_stopped()


def test_bumper_is_a_controlled_stop_that_ends_without_power(scene: Scene) -> None:
    scene.run()
    scene.site.node_a.control.press("bumper")
    block_until(lambda: not scene.moving())
    assert scene.response("reflex") is Response.SAFE_MODE
    block_until(lambda: not scene.relay("a") and not scene.relay("b"))
    block_until(lambda: scene.account()["may_power"] is False)


@pytest.mark.parametrize("what", ["killed", "frozen"])
def test_estop_works_without_remote(scene: Scene, what: str) -> None:
    scene.run()
    pid = scene.site.pid("remote")
    scene.freeze("remote")
    try:
        if what == "killed":
            scene.kill_pid(pid)
        pressed = scene.site.node_a.control.press("estop")
        scene.stopped(pressed.at_ns)
        block_until(lambda: not scene.relay("a"))
        block_until(lambda: scene.causes("reflex")["estop_pressed"]["active"])
    finally:
        if what == "frozen":
            scene.thaw(pid)
    block_until(lambda: scene.site.ask("remote"))


@pytest.mark.parametrize("what", ["killed", "frozen"])
def test_guardians_stop_works_without_reflex(scene: Scene, what: str) -> None:
    scene.run()
    pid = scene.site.pid("reflex")
    scene.freeze("reflex")
    try:
        if what == "killed":
            scene.kill_pid(pid)
        stages = scene.guardian.stop(Response.EMERGENCY_STOP, "test")
        # Without reflex nobody sees the standstill, and remote says so rather than guess.
        assert [stage.stage for stage in stages][:3] == ["sent", "accepted", "actuated"]
        block_until(lambda: not scene.relay("b"))
        block_until(lambda: not scene.moving())
    finally:
        if what == "frozen":
            scene.thaw(pid)
    block_until(lambda: scene.site.ask("reflex").get("robot", {}).get("connected"))
