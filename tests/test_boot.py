"""The handing-over of a checked plan: sealed, the same on the other side, readable by several."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import boot
from agent.boot import MAKERS, command, open_plan, seal_plan
from agent.config import load_plan
from agent.core.plan import Plan
from agent.processes import PROCESSES
from tests.core.factories import small_plan

PROTOCOL_PLAN = Path(__file__).parent / "config" / "protocol_plan.toml"


@pytest.fixture
def plan() -> Plan:
    """PROTOCOL 8's own, with everything in it."""
    return load_plan(PROTOCOL_PLAN, offline=True)


@pytest.fixture
def fd(plan: Plan) -> Iterator[int]:
    one = seal_plan(plan)
    yield one
    os.close(one)


def test_what_is_sealed_is_what_is_opened_however_often(plan: Plan, fd: int) -> None:
    assert open_plan(fd) == plan
    assert open_plan(fd) == plan


def test_what_is_sealed_nobody_changes(fd: int) -> None:
    with pytest.raises(PermissionError):
        os.write(fd, b"x")
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 1 << 20)
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x", 0)


def test_a_process_that_inherits_it_reads_it_whole(plan: Plan, fd: int) -> None:
    program = "import sys; from agent.boot import open_plan; print(open_plan(int(sys.argv[1])).digest)"
    told = subprocess.run(
        [sys.executable, "-c", program, str(fd)],
        pass_fds=(fd,),
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == plan.digest


def test_the_plan_of_the_simplest_robot_too() -> None:
    plan = small_plan()
    fd = seal_plan(plan)
    assert open_plan(fd) == plan
    os.close(fd)


def test_it_is_handed_over_as_data_and_nothing_that_runs(fd: int) -> None:
    data = json.loads(os.pread(fd, 1 << 20, 0))
    assert data["robot"]["id"] == "FT-2024-0017"


def test_every_row_of_the_table_has_its_module_and_no_other() -> None:
    assert MAKERS.keys() == {row.name for row in PROCESSES}
    assert [MAKERS[row.name]().__name__ for row in PROCESSES] == [
        "Reflex",
        "Remote",
        "Recorder",
        "MonitorModule",
    ]


def test_a_modules_command_line() -> None:
    assert command("reflex", 7, 4711) == [sys.executable, "-m", "agent.boot", "reflex", "7", "4711"]


def test_each_module_brings_only_what_is_its_own() -> None:
    """`reflex` carries neither MQTT nor pydantic (DESIGN): by what a fresh interpreter loads."""
    program = (
        "import sys; from agent.boot import MAKERS; MAKERS[sys.argv[1]](); print(*sys.modules, sep='\\n')"
    )
    root = Path(__file__).parents[1]

    def loaded(name: str) -> set[str]:
        told = subprocess.run(
            [sys.executable, "-c", program, name], cwd=root, capture_output=True, text=True, check=True
        )
        return {line.partition(".")[0] for line in told.stdout.splitlines()}

    heavy = {"aiomqtt", "paho", "prometheus_client", "psutil", "pydantic", "typer", "rich"}
    assert loaded("reflex") & heavy == set()
    assert loaded("remote") & heavy == {"aiomqtt", "paho"}
    assert loaded("recorder") & heavy == set()
    assert loaded("monitor") & heavy == {"prometheus_client", "psutil"}


def test_an_unknown_module_is_no_module() -> None:
    with pytest.raises(KeyError):
        boot.MAKERS["cloud"]()
