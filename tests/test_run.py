"""`warden run`, the whole program in real processes: what it refuses, what stops it, and how it ends."""

import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.permit import PermitWriter
from hil.child import Child
from hil.site import MODULES
from tests.bare import Bare, pid_of, warden
from tests.waiting import block_until

CHANNELS = ("reflex", "remote")


@pytest.fixture
def bare(run_dir: Path) -> Iterator[Bare]:
    with Bare(run_dir) as one:
        yield one


def nothing_is_left(bare: Bare) -> None:
    """No socket, no permit that permits, and nobody who holds one."""
    assert list(bare.run_folder.glob("*.sock")) == []
    for path in bare.run_folder.glob("*.permit"):
        assert bare.permit(path.stem).motion_until_ns == 0
        assert bare.permit(path.stem).power_until_ns == 0
        PermitWriter(path).close()


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


# ---- what is refused starts nothing


@pytest.mark.parametrize("module", [(), ("reflex",)])
def test_a_plan_that_is_refused_starts_nothing(bare: Bare, module: tuple[str, ...]) -> None:
    bare.write(lambda text: text.replace('name = "福小安"', 'name = "福小安"\nspeed = 3'))
    ended = warden("run", *module, "--config", bare.plan)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr == f"warden: {bare.plan}: robot.speed: unknown key\n"
    assert not (bare.folder / "run").exists()
    assert not (bare.folder / "state").exists()


@pytest.mark.parametrize("module", [(), ("remote",)])
def test_a_robot_the_trust_file_does_not_name_starts_nothing(bare: Bare, module: tuple[str, ...]) -> None:
    bare.write(lambda text: text.replace('id = "R-1"', 'id = "R-2"'))
    ended = warden("run", *module, "--config", bare.plan)
    assert (ended.returncode, ended.stdout) == (3, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"warden: {bare.pki.trust}: names no robot 'R-2'")
    assert not (bare.folder / "run").exists()


def test_a_plan_that_is_not_there(bare: Bare) -> None:
    away = bare.folder / "away.toml"
    ended = warden("run", "--config", away)
    assert (ended.returncode, ended.stderr) == (
        3,
        f"warden: {away}: cannot be read: No such file or directory\n",
    )


def test_a_module_that_does_not_exist_is_wrong_usage(bare: Bare) -> None:
    ended = warden("run", "relfex", "--config", bare.plan)
    assert ended.returncode == 2
    assert ended.stderr == (
        "warden: module: must be one of reflex, remote, recorder, monitor, not 'relfex'\n"
    )


# ---- what stands in the way of one ends all


def fails(bare: Bare, module: str) -> str:
    """The line of the module that could not start; the program ends with 1 and nothing is left."""
    ended = warden("run", "--config", bare.plan)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    lines = ended.stderr.splitlines()
    assert f"warden: {module} could not be started (exit 1)" in lines
    (line,) = [line for line in lines if line.startswith(f"{module}: /")]
    nothing_is_left(bare)
    return line


def test_a_log_folder_that_is_a_file(bare: Bare) -> None:
    (bare.folder / "log").write_text("in the way")
    assert str(bare.folder / "log") in fails(bare, "recorder")


def test_a_path_too_long_for_a_socket(run_dir: Path) -> None:
    long = run_dir / ("x" * 100)
    long.mkdir()
    bare = Bare(long)
    ended = warden("run", "--config", bare.plan)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "longer than 107 bytes, the limit of a Unix socket's path" in ended.stderr
    assert ended.stderr.count("could not be started") == 1
    nothing_is_left(bare)


def test_an_address_that_is_taken(bare: Bare) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        bare.write(lambda text: text.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        ended = warden("run", "--config", bare.plan)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert any(line.startswith("monitor: ") and str(port) in line for line in ended.stderr.splitlines())
    nothing_is_left(bare)


def test_a_trust_file_older_than_one_accepted_before(bare: Bare) -> None:
    """A channel refuses it for itself, and must be able to end over it."""
    bare.pki.sign_trust(version=5)
    assert bare.start("reflex").stop() == 0
    bare.pki.sign_trust(version=4)
    ended = warden("run", "--config", bare.plan)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert f"{bare.pki.trust}: version 4 is older than 5, accepted before" in ended.stderr
    nothing_is_left(bare)
    bare.pki.sign_trust(version=5)
    assert bare.start("reflex").stop() == 0


# ---- while it runs


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Bare, Child]]:
    folder = Path(tempfile.mkdtemp(prefix="w"))
    with Bare(folder) as bare:
        yield bare, bare.start()
    shutil.rmtree(folder)


def test_a_second_one_of_the_same_robot_is_refused_and_the_first_goes_on(
    running: tuple[Bare, Child],
) -> None:
    bare, child = running
    pids = {name: pid_of(bare.run_folder, name) for name in MODULES}
    ended = warden("run", "--config", bare.plan)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "could not be started" in ended.stderr
    assert {name: pid_of(bare.run_folder, name) for name in MODULES} == pids
    assert child.ended is None
    log = bare.folder / "log"
    genesis = bare.folder / "genesis"
    genesis.write_bytes((log / "ledger.jsonl").read_bytes().partition(b"\n")[0])
    found = warden("log", "verify", "--config", bare.plan, "--genesis", genesis, "--json")
    report = json.loads(found.stdout)
    assert report["exit_code"] == found.returncode == 1
    assert set(report["counts"]) == {"open"}, "its segments are being written, and nothing else is said of it"


def test_its_last_start_is_told_with_the_pids(running: tuple[Bare, Child]) -> None:
    bare, child = running
    pids = ", ".join(f"{name} {pid_of(bare.run_folder, name)}" for name in MODULES)
    assert f"warden: R-1 is protected and stopped; {pids}\n" in child.output.read_text()


def test_sigkill_of_it_is_the_end_of_its_modules(running: tuple[Bare, Child]) -> None:
    """The last of these three: `warden run` cannot end them itself any more."""
    bare, child = running
    pids = [pid_of(bare.run_folder, name) for name in MODULES]
    child.kill()
    block_until(lambda: all(gone(pid) for pid in pids))
    nothing_is_left(bare)
    assert "Traceback" not in child.output.read_text()


# ---- the end


def test_it_ends_in_order(bare: Bare) -> None:
    child = bare.start()
    pids = [pid_of(bare.run_folder, name) for name in MODULES]
    epochs = {name: bare.permit(name).epoch for name in CHANNELS}
    os.kill(child.pid, signal.SIGTERM)
    block_until(lambda: child.ended is not None)
    assert child.ended == 0
    assert [pid for pid in pids if not gone(pid)] == []
    nothing_is_left(bare)
    assert all(bare.permit(name).epoch >= epochs[name] for name in CHANNELS)
    assert "Traceback" not in child.output.read_text()


def test_it_ends_in_order_from_the_middle_of_its_start(bare: Bare) -> None:
    child = bare.begin()
    block_until((bare.run_folder / "reflex.permit").exists)
    os.kill(child.pid, signal.SIGTERM)
    block_until(lambda: child.ended is not None)
    assert child.ended == 0
    assert child.output.read_text().count("Traceback") == 0
    nothing_is_left(bare)


@pytest.mark.parametrize("module", MODULES)
def test_one_module_alone_starts_and_ends(bare: Bare, module: str) -> None:
    child = bare.start(module)
    assert pid_of(bare.run_folder, module) == child.pid
    assert child.stop() == 0
    nothing_is_left(bare)
    assert "Traceback" not in child.output.read_text()


FAULTY = """
import sys
from pathlib import Path
from agent.config import load_plan
from agent.reflex import Reflex
from agent.shell import run_module

class Faulty(Reflex):
    def _sample(self, now_ns):
        if Path(sys.argv[2]).exists():
            raise RuntimeError("nobody foresaw this")
        return super()._sample(now_ns)

sys.exit(run_module(Faulty, load_plan(Path(sys.argv[1])), 0))
"""


def test_a_fault_nobody_foresaw_ends_the_module_and_its_permit(bare: Bare) -> None:
    """A dead module is a stop (DESIGN, principle 5); it says where it died."""
    trap = bare.folder / "trap"
    output = bare.folder / "reflex.out"
    child = Child([sys.executable, "-c", FAULTY, str(bare.plan), str(trap)], output)
    block_until(lambda: pid_of(bare.run_folder, "reflex") == child.pid)
    trap.touch()
    assert block_until(lambda: child.ended) == 70
    assert "fault: " in output.read_text()
    assert "RuntimeError: nobody foresaw this" in output.read_text()
    nothing_is_left(bare)
