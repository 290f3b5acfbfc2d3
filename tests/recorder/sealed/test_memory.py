"""What protects keys in memory, as the kernel says, each time in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.recorder.sealed import memory

ROOT = Path(__file__).parents[3]
OBSERVE = """
import ctypes, json, os, resource
from pathlib import Path
from agent.recorder.sealed.memory import protect

def tell():
    report = protect()
    status = Path("/proc/self/status").read_text() if os.access("/proc/self/status", os.R_OK) else ""
    locked = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmLck:")]
    print(json.dumps({
        "report": report.as_dict(),
        "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "locked_kib": locked[0] if locked else -1,
    }))
"""
WITHOUT_RIGHTS = """
resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
"""


def run(script: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", OBSERVE + script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def test_no_dump_ever() -> None:
    seen = run("tell()")
    assert (seen["dumpable"], seen["core"]) == (0, [0, 0])
    assert seen["report"]["dumpable"] is False


def test_memory_is_locked_where_the_system_grants_it_and_else_it_is_said() -> None:
    report = run("tell()")["report"]
    assert report["locked"] is (report["reasons"] == [])


def test_what_is_refused_is_said_with_its_remedy() -> None:
    seen = run(WITHOUT_RIGHTS + "tell()")
    report = seen["report"]
    assert (report["dumpable"], report["locked"]) == (False, False)
    [reason] = report["reasons"]
    assert "LimitMEMLOCK=infinity" in reason
    assert "内存未锁定" in reason
    assert seen["dumpable"] == 0


def test_a_dump_that_cannot_be_forbidden_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(memory, "_prctl", lambda _option, _value: -1)
    monkeypatch.setattr(memory, "resource", SimpleNamespace(RLIMIT_CORE=4, setrlimit=refuse))
    monkeypatch.setattr(memory, "lock_memory", lambda **_: ["not locked / 内存未锁定"])
    report = memory.protect()
    assert (report.dumpable, report.locked) == (True, False)
    assert "not allowed" in report.reasons[0]
    assert "LimitCORE=0" in report.reasons[0]
    assert "可能被转储" in report.reasons[0]
    assert report.as_dict() == {"dumpable": True, "locked": False, "reasons": list(report.reasons)}
