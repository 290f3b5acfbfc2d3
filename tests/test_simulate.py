"""`warden run --simulate`: real modules, simulated devices; words from a pipe, keys on a terminal."""

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from agent.config import load_plan
from agent.simulate import Controls, simulated
from hil.person import Person
from hil.site import Site
from tests.waiting import DEADLINE_S, block_until

ROOT = Path(__file__).parents[1]


@pytest.fixture
def site() -> Iterator[Site]:
    """Keys, broker and plan; no node, no robot, nothing that the plan's devices could be."""
    folder = Path(tempfile.mkdtemp(prefix="w"))
    made = Site(folder, broker="mosquitto")
    made.broker.start()
    made.write_plan()
    yield made
    made.broker.stop()
    shutil.rmtree(folder, ignore_errors=True)


def start(site: Site, stdin: int, stdout: int, terminal: str = "xterm") -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "agent", "run", "--simulate", "--config", str(site.plan)]
    env = {**os.environ, "TERM": terminal}
    with (site.folder / "err").open("wb") as errors:
        return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=errors, cwd=ROOT, env=env)


def up(site: Site) -> Person:
    block_until(lambda: site.ask("reflex").get("robot", {}).get("connected") and site.ask("remote"))
    block_until(lambda: site.ask("remote")["mqtt"]["connected"])
    guardian = Person(site.folder, "guardian-li", site.pki, site.broker)
    block_until(lambda: not any(site.ask(m)["channel"]["blockers"] for m in ("reflex", "remote")))
    assert guardian.resume(retries=5)[-1].stage == "actuated"
    return guardian


def stops(site: Site) -> list[str]:
    return list(site.ask("reflex")["channel"]["stops"])


def test_words_from_a_pipe(site: Site) -> None:
    process = start(site, subprocess.PIPE, subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        up(site)

        def say(words: str) -> str:
            process.stdin.write(words.encode() + b"\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return process.stdout.readline().decode().strip()  # type: ignore[union-attr]

        assert say("press estop") == "done"
        block_until(lambda: "estop_pressed" in stops(site))
        assert "known are" in say("dance estop")
        assert "known are" in say("press nothing")
        assert "no number" in say("vary estop x")
        assert say("hello").startswith("say:")
        assert say("heal estop") == "done"
        assert not any(cause.startswith("input_stale") for cause in stops(site)), (
            "the panel is heard all the time"
        )
        process.send_signal(signal.SIGSTOP)
        block_until(lambda: {"input_stale:estop", "output_fault:relay_a"} <= set(stops(site)))
        process.send_signal(signal.SIGCONT)
        process.stdin.write(b"quit\n")
        process.stdin.flush()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


class Terminal:
    """A person's, at the program. `process`: it; `master`: the person's end."""

    def __init__(self, site: Site, name: str = "xterm") -> None:
        self.master, slave = pty.openpty()
        self.process = start(site, slave, slave, terminal=name)
        os.close(slave)
        self._shown = bytearray()

    def sees(self, words: str) -> bool:
        self._shown.extend(os.read(self.master, 65536))
        return words.encode() in self._shown

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


def test_keys_on_a_terminal(site: Site) -> None:
    with Terminal(site) as terminal:
        master = terminal.master
        block_until(lambda: terminal.sees("estop"))
        os.set_blocking(master, False)
        up(site)
        drain(master)
        os.write(master, b"1p")
        block_until(lambda: drain(master) and "estop_pressed" in stops(site))
        os.write(master, b"p")
        block_until(lambda: drain(master) and site.ask("reflex")["inputs"]["estop"]["closed"])
        os.write(master, b"2s")
        block_until(lambda: drain(master) and "input_stale:bumper" in stops(site))
        os.write(master, b"hq")
        block_until(lambda: drain(master) and terminal.process.poll() is not None)
        assert terminal.process.returncode == 0


def test_a_terminal_that_shows_no_panel_takes_words(site: Site) -> None:
    with Terminal(site, "dumb") as terminal:
        up(site)
        os.write(terminal.master, b"press estop\n")
        block_until(lambda: terminal.sees("done"))
        block_until(lambda: "estop_pressed" in stops(site))
        os.write(terminal.master, b"quit\n")
        assert terminal.process.wait(20) == 0


def drain(master: int) -> bool:
    """What the panel drew; a full terminal would hold it up."""
    try:
        while os.read(master, 65536):
            pass
    except OSError:
        pass
    return True


def test_a_program_that_is_killed_leaves_no_robot_behind(site: Site) -> None:
    process = start(site, subprocess.DEVNULL, subprocess.DEVNULL)
    try:
        block_until(lambda: site.ask("reflex").get("robot", {}).get("connected"))
        left = {pid: os.pidfd_open(pid) for pid in children(process.pid)}
        (robot,) = [pid for pid in left if b"hil.robot" in command_line(pid)]
        process.kill()
        process.wait()
        assert ends(left.pop(robot))
        assert all(map(ends, left.values())), "nor any module"
    finally:
        process.kill()
        process.wait()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def ends(pidfd: int) -> bool:
    """Whether that very process ends by itself; one that does not is ended here."""
    try:
        if select.select([pidfd], [], [], DEADLINE_S)[0]:
            return True
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return False
    finally:
        os.close(pidfd)


def test_every_device_is_replaced_and_nothing_else(site: Site) -> None:
    plan = load_plan(site.plan, simulate=True)
    made = simulated(plan)
    assert {spec.device.driver for spec in made.inputs.values()} == {"sim"}
    assert {spec.device.driver for spec in made.outputs.values()} == {"sim"}
    assert made.conditions == plan.conditions
    assert made.times == plan.times
    assert made.rows == plan.rows
    assert {name: spec.channel for name, spec in made.outputs.items()} == {
        name: spec.channel for name, spec in plan.outputs.items()
    }


def test_controls_leave_each_act_in_the_file(site: Site) -> None:
    controls = Controls(load_plan(site.plan, simulate=True))
    assert controls.line("cut_a estop") == ""
    assert controls.states["estop"].contacts == (False, True)


def test_a_module_alone_is_not_simulated(site: Site) -> None:
    command = [sys.executable, "-m", "agent", "run", "reflex", "--simulate", "--config", str(site.plan)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert "--simulate" in done.stderr
