"""The end of the whole program while the robot runs: it stands, the relays are open, nobody is left.

Its own site: every test here ends the agent.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from agent.permit import PermitReader
from hil.site import MODULES, Site
from tests.site.conftest import Scene
from tests.waiting import block_until


@pytest.fixture
def own() -> Iterator[Scene]:
    folder = Path(tempfile.mkdtemp(prefix="w"))
    with Site(folder, broker="mosquitto") as site:
        yield Scene(site)
    shutil.rmtree(folder, ignore_errors=True)


def permitted(scene: Scene) -> list[str]:
    """The channels whose permit is good for anything."""
    found = []
    for path in scene.site.permits:
        reader = PermitReader(path)
        permit = reader.read()
        reader.close()
        if permit.motion_until_ns or permit.power_until_ns:
            found.append(path.stem)
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_robot_stands_and_both_relays_are_open(own: Scene, number: signal.Signals) -> None:
    """By SIGTERM in order; by SIGKILL each module ends by itself, since its parent has."""
    own.run()
    (agent,) = own.site.agent
    pids = [own.site.pid(module) for module in MODULES]
    os.kill(agent.pid, number)
    block_until(lambda: not own.moving())
    block_until(lambda: not own.relay("a") and not own.relay("b"))
    block_until(lambda: agent.ended is not None)
    assert agent.ended == (0 if number is signal.SIGTERM else -number)
    block_until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    assert permitted(own) == []
    assert "Traceback" not in agent.output.read_text()
    if number is signal.SIGTERM:
        # What was said at the end was still kept.
        ends = [row for row in own.records() if row["kind"] == "response" and row["body"]["from"] == "none"]
        assert ends
    own.site.start_agent()
    block_until(lambda: not own.moving() and not own.relay("a") and not own.relay("b"))
    assert own.causes("remote")["starting"]
