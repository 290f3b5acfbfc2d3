"""`recorder` as the program runs it: its place from the plan, its own records, its figures."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.core.plan import Plan
from agent.core.plan import Recorder as RecorderPlan
from agent.events import EventSink
from agent.recorder.log import LogError
from agent.recorder.module import Recorder
from agent.recorder.verify import verify
from tests.core.factories import small_plan
from tests.recorder.logs import whole
from tests.waiting import wait_until


def plan_in(folder: Path) -> Plan:
    log = RecorderPlan(str(folder / "state" / "log"), (), 190)
    return small_plan(run_dir=str(folder / "run"), state_dir=str(folder / "state"), recorder=log)


@pytest.fixture
async def recorder(run_dir: Path) -> AsyncIterator[Recorder]:
    one = Recorder(plan_in(run_dir), asyncio.get_running_loop())
    one.start()
    yield one
    one.close()


def log_of(recorder: Recorder) -> Path:
    return Path(recorder.shell.plan.recorder.dir)


async def ask(recorder: Recorder, role: str, question: str) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.setblocking(False)
        sock.connect(str(recorder.shell.folder / "recorder.sock"))
        sock.send(json.dumps({"type": "hello", "role": role, "boot": "1" * 32, "pid": 1}).encode())
        sock.send(json.dumps({"type": question}).encode())
        loop = asyncio.get_running_loop()
        while True:
            message = json.loads(await asyncio.wait_for(loop.sock_recv(sock, 1 << 17), 20))
            if message["type"] == question:
                return dict(message)


def series(answer: dict[str, Any], name: str) -> dict[str, float]:
    return {labels[0] if labels else "": value for labels, value in answer["data"][name]}


async def emit(recorder: Recorder, *streams: str) -> None:
    """Events of `reflex`, until they are known to be kept."""
    sink = EventSink(
        asyncio.get_running_loop(),
        recorder.shell.folder / "recorder.sock",
        source="reflex",
        boot="2" * 32,
        allowed_uids=frozenset({os.geteuid()}),
    )
    sink.start()
    for stream in streams:
        sink.emit("note", {}, stream=stream)
    await wait_until(lambda: not sink.pending)
    sink.close()


async def test_it_makes_its_folders_and_keeps_what_it_is_told(recorder: Recorder) -> None:
    await emit(recorder, "safety", "safety", "net")
    kept = [record for record in whole(log_of(recorder)) if record.source == "reflex"]
    assert [record.stream for record in kept] == ["safety", "safety", "net"]


async def test_its_own_start_is_a_record_like_any_other(recorder: Recorder) -> None:
    recorder.shell.settle()
    await wait_until(
        lambda: any(
            (record.source, record.kind) == ("recorder", "module_started")
            for record in whole(log_of(recorder))
        )
    )


async def test_its_figures_are_the_logs_and_counted_once_however_often_they_are_asked_for(
    recorder: Recorder,
) -> None:
    await emit(recorder, "safety", "safety", "net")
    before = series(await ask(recorder, "monitor", "metrics"), "log_records_total")
    again = await ask(recorder, "monitor", "metrics")
    records = series(again, "log_records_total")
    assert records == before
    assert records["net"] == 1
    assert records["safety"] >= 2
    assert series(again, "log_bytes")["net"] > 0
    assert series(again, "log_oldest_timestamp_seconds")["net"] > 1e9
    assert series(again, "log_last_commit_timestamp_seconds")[""] > 1e9
    assert series(again, "log_lost_total")["safety"] == 0


async def test_what_it_says_of_itself(recorder: Recorder) -> None:
    answer = await ask(recorder, "status", "status")
    assert answer["module"]["name"] == "recorder"
    assert answer["module"]["pid"] == os.getpid()


async def test_its_end_leaves_a_log_that_is_whole(recorder: Recorder) -> None:
    await emit(recorder, *["safety"] * 50)
    recorder.close()
    recorder.close()
    report = verify(log_of(recorder))
    assert (report.exit_code, report.bad) == (0, 0)


async def test_what_was_kept_before_a_restart_is_still_counted(run_dir: Path, recorder: Recorder) -> None:
    await emit(recorder, "net", "net")
    recorder.close()
    again = Recorder(plan_in(run_dir), asyncio.get_running_loop())
    again.start()
    answer = await ask(again, "monitor", "metrics")
    again.close()
    assert series(answer, "log_records_total")["net"] == 2


async def test_a_folder_that_cannot_be_one_is_refused_before_anything_listens(run_dir: Path) -> None:
    (run_dir / "state").mkdir()
    (run_dir / "state" / "log").write_text("in the way")
    with pytest.raises(LogError):
        Recorder(plan_in(run_dir), asyncio.get_running_loop())
    assert list((run_dir / "run").rglob("*.sock")) == []
