"""`warden status`: what the permits say, as the robot reads them, and what each module says of itself."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import status
from agent.core.plan import Plan
from agent.core.responses import Response
from agent.permit import PermitWriter
from agent.processes import PROCESSES
from agent.shell import Shell
from tests.core.factories import small_plan
from tests.permits import Grant, but

NAMES = tuple(row.name for row in PROCESSES)
NOWHERE = {"pid": None, "alive": False, "realtime": None}


@pytest.fixture
def plan(run_dir: Path) -> Plan:
    (run_dir / "FT-1").mkdir()
    return small_plan(run_dir=str(run_dir))


@pytest.fixture
def permits(plan: Plan) -> Iterator[dict[str, PermitWriter]]:
    folder = Path(plan.run_dir) / plan.robot.id
    writers = {name: PermitWriter(folder / f"{name}.permit") for name in status.CHANNELS}
    yield writers
    for writer in writers.values():
        writer.close()


def grant(epoch: int = 3, speed_permille: int = 1000, response: int = 0) -> Grant:
    """Good for an hour."""
    ahead_ns = time.monotonic_ns() + 3600 * 10**9
    return {
        "motion_until_ns": ahead_ns,
        "power_until_ns": ahead_ns,
        "epoch": epoch,
        "speed_permille": speed_permille,
        "response": response,
    }


# ---- the permits


def test_without_any_module_nothing_moves(plan: Plan) -> None:
    assert status.gather(plan) == {
        "robot_id": "FT-1",
        "response": "emergency_stop",
        "epoch": 0,
        "motion": False,
        "power": False,
        "speed_permille": 0,
        "causes": [],
        "blockers": [],
        "modules": dict.fromkeys(NAMES, NOWHERE),
    }


def test_without_even_a_run_folder_nothing_moves(plan: Plan, tmp_path: Path) -> None:
    seen = status.gather(replace(plan, run_dir=str(tmp_path / "x" / ("long" * 60))))
    assert (seen["motion"], seen["power"]) == (False, False)


def test_it_may_move_while_both_permits_say_so(plan: Plan, permits: dict[str, PermitWriter]) -> None:
    permits["reflex"].write(**grant(epoch=3, speed_permille=300, response=2))
    permits["remote"].write(**grant(epoch=5))
    seen = status.gather(plan)
    assert (seen["motion"], seen["power"]) == (True, True)
    assert (seen["epoch"], seen["speed_permille"], seen["response"]) == (8, 300, "restrict")


@pytest.mark.parametrize("channel", status.CHANNELS)
def test_one_permit_that_ran_out_is_enough(
    plan: Plan, permits: dict[str, PermitWriter], channel: str
) -> None:
    for name, writer in permits.items():
        past = {"motion_until_ns": 1, "power_until_ns": 1} if name == channel else {}
        writer.write(**but(grant(), **past))
    seen = status.gather(plan)
    assert (seen["motion"], seen["power"]) == (False, False)


def test_in_a_hold_there_is_power_and_no_motion(plan: Plan, permits: dict[str, PermitWriter]) -> None:
    permits["reflex"].write(**but(grant(response=3, speed_permille=0), motion_until_ns=0))
    permits["remote"].write(**grant())
    seen = status.gather(plan)
    assert (seen["motion"], seen["power"], seen["response"]) == (False, True, "hold")


def test_a_permit_that_is_not_there_is_a_stop(plan: Plan) -> None:
    writer = PermitWriter(Path(plan.run_dir) / plan.robot.id / "reflex.permit")
    writer.write(**grant())
    seen = status.gather(plan)
    writer.close()
    assert (seen["motion"], seen["response"], seen["speed_permille"]) == (False, "emergency_stop", 0)


# ---- the modules


@pytest.fixture
async def shells(plan: Plan) -> AsyncIterator[dict[str, Shell]]:
    """All four at their sockets."""
    loop = asyncio.get_running_loop()
    made = {name: Shell(plan, name, loop) for name in NAMES}
    for shell in made.values():
        shell.start()
    yield made
    for shell in made.values():
        shell.close()


async def gather(plan: Plan, timeout_s: float = 20.0) -> dict[str, Any]:
    return await asyncio.to_thread(status.gather, plan, timeout_s)


async def test_each_module_is_asked(plan: Plan, shells: dict[str, Shell]) -> None:
    cause = {"id": "estop_pressed", "response": "emergency_stop"}
    shells["reflex"].status = lambda: {"channel": {"causes": [cause], "blockers": ["cause_active"]}}
    shells["remote"].status = lambda: {
        "channel": {"causes": [], "blockers": ["cause_active", "in_maintenance"]}
    }
    shells["recorder"].status = lambda: {"lost": {"safety": 0}}
    seen = await gather(plan)
    assert seen["causes"] == [cause]
    assert seen["blockers"] == ["cause_active", "in_maintenance"]
    assert {name: module["alive"] for name, module in seen["modules"].items()} == dict.fromkeys(NAMES, True)
    assert seen["modules"]["recorder"]["told"] == {"lost": {"safety": 0}}
    assert "told" not in seen["modules"]["reflex"]
    for module in seen["modules"].values():
        assert isinstance(module["pid"], int)
        assert module["realtime"].keys() == {"fifo", "memory_locked", "collector_off", "reasons"}


async def test_one_that_is_away_is_said(plan: Plan, shells: dict[str, Shell]) -> None:
    shells["remote"].close()
    seen = await gather(plan)
    assert seen["modules"]["remote"] == NOWHERE
    assert seen["modules"]["reflex"]["alive"]


Answer = Callable[[socket.socket], None]


def garbage(sock: socket.socket) -> None:
    sock.send(b"\xff\xfe")


def hangs_up(sock: socket.socket) -> None:
    sock.close()


def says_nothing(sock: socket.socket) -> None:
    """Until it is given up."""


def talks_of_other_things(sock: socket.socket) -> None:
    for message in ([1], {"type": "beat"}, {"type": "status", "module": {"pid": 7}}):
        sock.send(json.dumps(message).encode())


@pytest.mark.parametrize(
    ("answer", "pid"),
    [(garbage, None), (hangs_up, None), (says_nothing, None), (talks_of_other_things, 7)],
)
async def test_a_module_that_answers_badly_is_not_alive(plan: Plan, answer: Answer, pid: int | None) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(Path(plan.run_dir) / plan.robot.id / "reflex.sock"))
        listener.listen(4)
        listener.setblocking(False)
        asking = asyncio.create_task(gather(plan, 0.2))
        sock, _ = await asyncio.get_running_loop().sock_accept(listener)
        answer(sock)
        seen = await asking
        sock.close()
    assert seen["modules"]["reflex"]["pid"] == pid
    assert seen["modules"]["reflex"]["alive"] is (pid is not None)


# ---- for people


CAUSE = {
    "id": "estop_pressed",
    "response": "emergency_stop",
    "active": True,
    "clear": "reset_and_resume",
    "text": {"zh": "急停[/b]", "en": "E-stop [red]pressed"},
}


def shown(plan: Plan, seen: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    status.show(plan, seen)
    told = capsys.readouterr()
    return told.out, told.err


def test_what_stands_before_a_resume_is_shown(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    seen = status.gather(plan)
    seen |= {"causes": [CAUSE, {**CAUSE, "active": False, "clear": "resume"}], "blockers": ["cause_active"]}
    out, _ = shown(plan, seen, capsys)
    assert "stopped 已停机" in out
    assert "● emergency_stop: 急停[/b] / E-stop [red]pressed (reset_and_resume)" in out
    assert "○ emergency_stop: 急停[/b] / E-stop [red]pressed (resume)" in out
    assert "before a resume: cause_active" in out
    assert out.count("NO") == len(NAMES)


def test_what_is_only_mirrored_is_not_shown_twice(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    seen = status.gather(plan) | {"causes": [{**CAUSE, "id": "peer_stop"}]}
    assert "急停" not in shown(plan, seen, capsys)[0]


def test_a_name_is_text_whatever_it_is_made_of(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    odd = replace(plan, robot=replace(plan.robot, name="[/b] [red]福小安"))
    assert "[/b] [red]福小安" in shown(odd, status.gather(odd), capsys)[0]


def test_what_the_system_refused_is_said_aloud(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    seen = status.gather(plan)
    report = {"fifo": True, "memory_locked": False, "collector_off": True, "reasons": ["mlockall refused"]}
    seen["modules"]["reflex"] = {"pid": 7, "alive": True, "realtime": report}
    none = {"fifo": False, "memory_locked": False, "collector_off": False, "reasons": []}
    seen["modules"]["monitor"] = {"pid": 8, "alive": True, "realtime": none}
    out, err = shown(plan, seen, capsys)
    assert "fifo, collector_off" in out
    assert err == "reflex: mlockall refused\n"


def test_a_robot_that_may_run_is_shown_as_one(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    seen = status.gather(plan) | {"motion": True, "power": True, "response": Response.NONE.label}
    out, _ = shown(plan, seen, capsys)
    assert "may run 允许运行" in out
    assert "power on" in out


LOG = {
    "ledger": {"n": 12, "hash": "aa", "broken_off": ""},
    "witnessed": 9,
    "state_kept_by": "credential",
    "memory": {"dumpable": False, "locked": True, "reasons": []},
    "space": {"level": 1, "means": "alarm / 告警"},
    "trouble": None,
    "ledger_trouble": None,
}


def with_log(plan: Plan, **changes: object) -> dict[str, Any]:
    seen = status.gather(plan)
    seen["modules"]["recorder"] = {"pid": 9, "alive": True, "realtime": None, "told": {**LOG, **changes}}
    return seen


def test_how_far_the_log_is_and_who_has_witnessed_it(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = shown(plan, with_log(plan), capsys)
    assert "ledger entry 12, witnessed 已见证 to 9; alarm / 告警" in out
    assert "key file" not in out
    assert not err


def test_what_is_weak_about_the_log_is_said_aloud(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    memory = {"dumpable": False, "locked": False, "reasons": ["mlockall refused"]}
    seen = with_log(
        plan, witnessed=-1, state_kept_by="file", memory=memory, trouble="full [ENOSPC]", ledger_trouble="x"
    )
    out, err = shown(plan, seen, capsys)
    assert "not witnessed 未见证" in out
    assert "key file" in out
    assert "full [ENOSPC]" in out
    assert err == "recorder: mlockall refused\n"
