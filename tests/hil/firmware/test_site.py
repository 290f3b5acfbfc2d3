"""A whole site with the firmware for both of its nodes: C and Python stop a robot together."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.firmware import FirmwareProcess
from hil.site import Site
from tests.site.conftest import Scene
from tests.waiting import block_until


@pytest.fixture(scope="module")
def scene(program: Path) -> Iterator[Scene]:
    folder = Path(tempfile.mkdtemp(prefix="w"))
    site = Site(folder, broker="mosquitto")
    site.node_a = FirmwareProcess(folder / "a", program=program)
    site.node_b = FirmwareProcess(folder / "b", inputs="spare", program=program)
    try:
        with site:
            yield Scene(site)
        for node in (site.node_a, site.node_b):
            assert node.process.ended == 0, node.process.last_words(30)
    finally:
        shutil.rmtree(folder)


def test_it_runs_after_a_resume_and_stops_at_a_press(scene: Scene) -> None:
    scene.stays_stopped()
    assert not scene.relay("a")
    scene.run()
    assert scene.relay("a")
    assert scene.relay("b")
    pressed = scene.site.node_a.control.press("estop")
    scene.stopped(pressed.at_ns)
    block_until(lambda: not scene.relay("a") and not scene.relay("b"))
    assert scene.site.node_a.control.state().transitions[-1].why == "ordered"
    scene.site.node_a.control.release("estop")
    scene.stays_stopped()


def test_a_node_that_falls_silent_stops_the_robot_and_its_return_starts_nothing(scene: Scene) -> None:
    scene.run()
    node = scene.site.node_a.control
    node.silent()
    block_until(lambda: not scene.moving())
    assert {"input_stale", "input_fault"} & scene.causes("reflex").keys()
    node.silent(on=False)
    block_until(lambda: not scene.blockers())
    scene.stays_stopped()


def test_each_relay_opens_by_its_own_clock_when_its_module_is_killed(scene: Scene) -> None:
    """A killed module sends no last order: its relay opens by silence, the other one is ordered open."""
    scene.run()
    node = scene.site.node_a.control
    killed_ns = scene.kill("reflex")
    opened = block_until(lambda: (last := node.state().transitions[-1]).closed is False and last)
    assert opened
    assert opened.why == "silence"
    assert opened.at_ns > killed_ns
    assert scene.site.node_a.control.state().relay is False
    block_until(lambda: not scene.relay("b"))
