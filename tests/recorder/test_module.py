"""`recorder` as the program runs it: its place from the plan, its own records, its figures."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.audit import Report, load_recipient_key, verify
from agent.core.plan import Plan, Remote
from agent.core.plan import Recorder as RecorderPlan
from agent.events import EventSink
from agent.recorder.log import LogError, Record
from agent.recorder.module import Recorder
from hil.pki import Pki
from tests.core.factories import small_plan
from tests.recorder.logs import opened
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.create(tmp_path_factory.mktemp("pki"), robot_id="FT-1")


def plan_in(folder: Path, pki: Pki) -> Plan:
    log = RecorderPlan(
        str(folder / "state" / "log"),
        (str(pki.recipient_jwk("department")), str(pki.recipient_jwk("authority"))),
        190,
        witnesses=(str(pki.witness_jwk),),
        segment_bytes=1 << 16,
    )
    remote = Remote(
        host="localhost",
        port=1,
        tls=False,
        protocol="5",
        ca="",
        cert="",
        key="",
        signing_key="",
        root_keys=(str(pki.root_jwk),),
        trust=str(pki.trust),
        groups=(),
        link_lost_ns=1,
    )
    return small_plan(
        run_dir=str(folder / "run"), state_dir=str(folder / "state"), recorder=log, remote=remote
    )


def whole(recorder: Recorder, pki: Pki) -> list[Record]:
    return opened(log_of(recorder), [load_recipient_key(pki.recipient_key("authority"))])


def verdict(recorder: Recorder) -> Report:
    ledger = log_of(recorder) / "ledger.jsonl"
    return verify(log_of(recorder), genesis=ledger.read_bytes().partition(b"\n")[0], processes=1)


@pytest.fixture
async def recorder(run_dir: Path, pki: Pki) -> AsyncIterator[Recorder]:
    one = Recorder(plan_in(run_dir, pki), asyncio.get_running_loop())
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


async def test_it_makes_its_folders_and_keeps_what_it_is_told(recorder: Recorder, pki: Pki) -> None:
    await emit(recorder, "safety", "safety", "net")
    kept = [record for record in whole(recorder, pki) if record.source == "reflex"]
    assert [record.stream for record in kept] == ["safety", "safety", "net"]


async def test_its_own_start_is_a_record_like_any_other(recorder: Recorder, pki: Pki) -> None:
    recorder.shell.settle()
    await wait_until(
        lambda: any(
            (record.source, record.kind) == ("recorder", "module_started") for record in whole(recorder, pki)
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
    report = verdict(recorder)
    assert (report.exit_code, report.findings) == (0, [])
    assert report.records >= 51
    assert report.open == 0


async def test_what_was_kept_before_a_restart_is_still_counted(
    run_dir: Path, recorder: Recorder, pki: Pki
) -> None:
    await emit(recorder, "net", "net")
    recorder.close()
    again = Recorder(plan_in(run_dir, pki), asyncio.get_running_loop())
    again.start()
    answer = await ask(again, "monitor", "metrics")
    again.close()
    assert series(answer, "log_records_total")["net"] == 2


async def test_a_folder_that_cannot_be_one_is_refused_before_anything_listens(
    run_dir: Path, pki: Pki
) -> None:
    (run_dir / "state").mkdir()
    (run_dir / "state" / "log").write_text("in the way")
    with pytest.raises(LogError):
        Recorder(plan_in(run_dir, pki), asyncio.get_running_loop())
    assert list((run_dir / "run").rglob("*.sock")) == []
