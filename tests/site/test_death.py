"""SIGKILL and SIGSTOP of each module while the robot runs: it is stopped within ttl plus one of its cycles.

Held by data, not by a stopwatch, so that a busy machine cannot fail it: what the C reader says of the moment
`signal + ttl`, and what the robot's own account says of every cycle from then on.
"""

import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from agent.permit import PermitReader
from tests.sdk.c_reader import CReader, build
from tests.site.conftest import Scene
from tests.waiting import block_until

TTL_NS = 100_000_000
CYCLE_NS = 20_000_000


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("permit_cli", tmp_path_factory.mktemp("c"))


@pytest.fixture
def c_reader(scene: Scene, program: Path) -> Iterator[CReader]:
    reader = CReader(program, scene.site.permits)
    yield reader
    reader.close()


def unmoved_from(scene: Scene, from_ns: int) -> None:
    """By its own account the robot had no leave to move in any cycle that began at or after `from_ns`."""
    block_until(lambda: scene.account()["mono_ns"] > from_ns + 10 * CYCLE_NS)
    later = [line for line in scene.site.reports() if line["mono_ns"] >= from_ns]
    assert later
    assert not [line for line in later if line["may_move"]]


@pytest.mark.parametrize("module", ["reflex", "remote"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_robot_stops_by_itself(
    scene: Scene, c_reader: CReader, module: str, number: signal.Signals
) -> None:
    scene.run()
    pid = scene.site.pid(module)
    assert c_reader.read(time.monotonic_ns()).may_move
    sent_ns = scene.site.signal(module, number)
    try:
        if number is signal.SIGSTOP:
            # The signal is delivered, at the latest, when the process would next run; from then on its
            # permit is what it was.
            block_until(lambda: Path(f"/proc/{pid}/stat").read_text().split()[2] == "T")
            stopped_ns = time.monotonic_ns()
        else:
            stopped_ns = sent_ns
        assert not c_reader.read(stopped_ns + TTL_NS).may_move
        # One cycle more is what the robot may take to look.
        unmoved_from(scene, stopped_ns + TTL_NS + CYCLE_NS)
        scene.stopped(sent_ns)
    finally:
        if number is signal.SIGSTOP:
            scene.thaw(pid)
    block_until(lambda: scene.site.ask(module) and scene.site.ask("reflex")["robot"]["connected"])
    scene.stays_stopped()
    other = "remote" if module == "reflex" else "reflex"
    block_until(lambda: "peer_lost" in scene.causes(other))


@pytest.mark.parametrize("module", ["reflex", "remote"])
def test_a_module_that_was_held_up_does_not_go_on_as_if_nothing_had_been(scene: Scene, module: str) -> None:
    scene.run()
    before = scene.epoch()
    pid, _ = scene.freeze(module)
    block_until(lambda: not scene.moving())
    scene.thaw(pid)
    block_until(lambda: "host_unwell" in scene.causes(module))
    assert scene.epoch() > before
    scene.stays_stopped()


@pytest.mark.parametrize("module", ["recorder", "monitor"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_what_no_stop_needs_stops_nothing(scene: Scene, module: str, number: signal.Signals) -> None:
    """Recorder and monitor hold no permit; how long one may be away is the plan's (`recorder_lost`)."""
    scene.run()
    pid = scene.site.pid(module)
    scene.site.signal(module, number)
    first = scene.account()["mono_ns"]

    def ten_cycles_on() -> bool:
        now = scene.account()
        assert now["may_move"]
        return bool(now["mono_ns"] - first > 10 * CYCLE_NS)

    try:
        block_until(ten_cycles_on)
    finally:
        if number is signal.SIGSTOP:
            scene.thaw(pid)
    block_until(partial(scene.site.ask, module))
    assert scene.moving()


def test_the_estop_works_with_recorder_and_monitor_gone(scene: Scene) -> None:
    scene.run()
    pids = [scene.freeze(module)[0] for module in ("recorder", "monitor")]
    try:
        pressed = scene.site.node_a.control.press("estop")
        scene.stopped(pressed.at_ns)
        block_until(lambda: not scene.relay("a") and not scene.relay("b"))
        assert scene.guardian.stop()[-1].stage == "verified"
    finally:
        for pid in pids:
            scene.thaw(pid)


@pytest.mark.parametrize("module", ["reflex", "remote"])
def test_a_latched_stop_and_the_epoch_survive_kill_9(scene: Scene, module: str) -> None:
    scene.run()
    cause = "estop_pressed" if module == "reflex" else "guardian_stop"
    if module == "reflex":
        scene.site.node_a.control.press("estop")
        latch = scene.site.folder / "state" / scene.site.robot_id / "reflex.latch"
        # Nobody acknowledges a press; on the disk is when it must not be forgotten any more.
        block_until(lambda: cause in latch.read_text())
    else:
        assert scene.guardian.stop()[-1].stage == "verified"
    epochs = {name: permit_epoch(scene, name) for name in ("reflex", "remote")}
    pid = scene.site.pid(module)
    scene.kill(module)
    block_until(lambda: (answer := scene.site.ask(module)) and answer["module"]["pid"] != pid)
    assert cause in scene.causes(module)
    assert permit_epoch(scene, module) > epochs[module]
    scene.site.node_a.control.release("estop")
    block_until(lambda: scene.site.ask("reflex")["robot"]["connected"])
    scene.stays_stopped()


def permit_epoch(scene: Scene, module: str) -> int:
    reader = PermitReader(scene.site.run_folder / f"{module}.permit")
    epoch = reader.read().epoch
    reader.close()
    return epoch
