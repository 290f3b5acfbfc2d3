"""`recorder` as the program runs it: its place from the plan, its own records, its figures."""

import asyncio
import json
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.ask import ask as question_module
from agent.audit import OrderKeys, Report, load_recipient_key, verify
from agent.core.plan import Plan, Remote
from agent.core.plan import Recorder as RecorderPlan
from agent.events import EventSink
from agent.keeping import NO_TASKS, RESERVE_ONLY, Keeping
from agent.logformat.layout import ORDER_TYP, WITNESS_TYP
from agent.recipients import write_recipient_pair
from agent.recorder.log import LogError, Record
from agent.recorder.module import Recorder
from agent.recorder.sealed.parts import Clocks
from agent.tokens import load_private_key, load_public_jwk, load_roots, load_trust, sign
from hil.pki import ROOT_KID, WITNESS_KID, Pki
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
        boot=secrets.token_hex(16),
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


# ---- room: what the recorder says, and what it then still keeps


async def test_reflex_is_told_of_a_filling_disk_at_once_and_when_it_comes(recorder: Recorder) -> None:
    room = [900]
    recorder.keeper._space._free = lambda _: room[0]
    sink = EventSink(
        asyncio.get_running_loop(),
        recorder.shell.folder / "recorder.sock",
        source="reflex",
        boot="3" * 32,
        allowed_uids=frozenset({os.geteuid()}),
    )
    keeping = Keeping(sink, lost_ns=60_000_000_000, now_ns=0)
    sink.start()
    await wait_until(lambda: sink.connected)
    for room[0], level in ((49, NO_TASKS), (5, RESERVE_ONLY), (900, 0)):
        recorder.keeper.look()
        await wait_until(lambda: keeping.level == level)  # noqa: B023 - awaited here
    sink.close()

    def levels() -> list[int]:
        return [e["body"]["level"] for e in ledger(recorder) if e["kind"] == "disk.level"]

    await wait_until(lambda: levels() == [NO_TASKS, RESERVE_ONLY, 0])


async def test_with_the_reserve_alone_safety_is_kept_and_the_rest_is_counted(
    recorder: Recorder, pki: Pki
) -> None:
    recorder.keeper._space._free = lambda _: 5
    recorder.keeper.look()
    await emit(recorder, "safety", "net", "tele", "safety")
    kept = [record for record in whole(recorder, pki) if record.source == "reflex"]
    assert [record.stream for record in kept] == ["safety", "safety"]
    assert recorder.service.lost == {"safety": 0, "net": 1, "tele": 1}
    recorder.close()
    lost = {e["body"]["stream"]: e["body"]["count"] for e in ledger(recorder) if e["kind"] == "loss"}
    assert lost == {"net": 1, "tele": 1}


def ledger(recorder: Recorder) -> list[dict[str, Any]]:
    lines = (log_of(recorder) / "ledger.jsonl").read_bytes().splitlines()
    return [json.loads(line) for line in lines]


# ---- its setting, and what people ask


async def test_the_ledger_says_how_the_log_is_set_once_until_the_plan_changes(
    run_dir: Path, recorder: Recorder, pki: Pki
) -> None:
    recorder.close()
    again = Recorder(plan_in(run_dir, pki), asyncio.get_running_loop())
    again.close()
    plan = plan_in(run_dir, pki)
    other = replace(plan, recorder=replace(plan.recorder, opening="all"))
    third = Recorder(other, asyncio.get_running_loop())
    third.close()
    kinds = [entry["kind"] for entry in ledger(recorder)]
    assert kinds.count("boot") == 3
    settings = [entry["body"]["opening"] for entry in ledger(recorder) if entry["kind"] == "config"]
    assert settings == ["any", "all"]
    assert verdict(recorder).exit_code == 0


async def test_where_all_must_open_together_one_alone_opens_nothing(run_dir: Path, pki: Pki) -> None:
    plan = plan_in(run_dir, pki)
    one = Recorder(replace(plan, recorder=replace(plan.recorder, opening="all")), asyncio.get_running_loop())
    one.start()
    await emit(one, "safety")
    one.close()
    keys = [load_recipient_key(pki.recipient_key(kid)) for kid in ("department", "authority")]
    assert opened(log_of(one), keys[:1]) == []
    assert [r.kind for r in opened(log_of(one), keys) if r.source == "reflex"] == ["note"]


def order(pki: Pki, kind: str, **claims: object) -> str:
    """Signed by the department's root, as `guardian order` signs with a person's key."""
    about = {"iss": ROOT_KID, "aud": "FT-1", "iat": 1_800_000_000, "jti": "j1", "order": kind, "reason": "r"}
    return sign({**about, **claims}, key=load_private_key(pki.root_key), kid=ROOT_KID, typ=ORDER_TYP)


async def tell(recorder: Recorder, question: dict[str, object]) -> dict[str, Any]:
    path = recorder.shell.folder / "recorder.sock"
    found = await asyncio.to_thread(question_module, path, question, 10)
    assert found is not None
    return found


async def test_a_hold_is_placed_by_anyone_here_and_released_by_an_order(recorder: Recorder, pki: Pki) -> None:
    placed = await tell(recorder, {"type": "log_hold", "from_ns": 5, "to_ns": 9, "reason": "inquiry"})
    assert placed["ok"] is True
    for token, ok in (("x", False), (order(pki, "release", hold=placed["id"]), True)):
        released = await tell(recorder, {"type": "log_release", "order": token})
        assert released["ok"] is ok, released
    again = await tell(recorder, {"type": "log_release", "order": order(pki, "release", hold=placed["id"])})
    assert again["ok"] is False
    assert "released before" in again["reason"]
    bodies = [entry["body"] for entry in ledger(recorder) if entry["kind"] == "hold"]
    assert [sorted(body) for body in bodies] == [["from_ns", "id", "reason", "to_ns"], ["id", "release"]]


async def test_a_young_segment_is_kept_whoever_orders_it_away(recorder: Recorder, pki: Pki) -> None:
    await emit(recorder, "net")
    recorder.store.log.change(recorder.store.log._tools.sealing.recipients, "any")
    sealed = next(
        e["body"] for e in ledger(recorder) if e["kind"] == "seg.seal" and e["body"]["stream"] == "net"
    )
    named = {key: sealed[key] for key in ("stream", "segno", "seal")}
    answer = await tell(recorder, {"type": "log_delete", "order": order(pki, "delete", segments=[named])})
    assert (answer["ok"], answer["deleted"]) == (False, 0)
    assert {row["segno"] for row in answer["problems"]} == {sealed["segno"]}
    assert any("local clock" in row["en"] and "本机时钟" in row["zh"] for row in answer["problems"])
    assert not [entry for entry in ledger(recorder) if entry["kind"] == "delete"]


@pytest.mark.parametrize(
    "question",
    [
        {"type": "log_hold"},
        {"type": "log_hold", "from_ns": 1.5, "to_ns": 2, "reason": "x"},
        {"type": "log_hold", "from_ns": 9, "to_ns": 1, "reason": "x"},
        {"type": "log_hold", "from_ns": 1, "to_ns": 9, "reason": 7},
        {"type": "log_delete", "order": None},
        {"type": "log_delete", "order": "a.b.c"},
        {"type": "log_release", "order": "é" * 10},
    ],
)
async def test_what_is_not_of_its_form_is_refused_with_a_reason(
    recorder: Recorder, question: dict[str, object]
) -> None:
    before = len(ledger(recorder))
    answer = await tell(recorder, question)
    assert answer["ok"] is False
    assert answer["reason"]
    assert len([e for e in ledger(recorder)[before:] if e["kind"] in ("hold", "delete")]) == 0


def in_suite_2(plan: Plan, folder: Path) -> tuple[Plan, Path]:
    """The same plan, for a recipient with an SM2 key; and that key."""
    folder.mkdir(exist_ok=True)
    private, public = write_recipient_pair(folder, "auditor", 2)
    return replace(plan, recorder=replace(plan.recorder, suite=2, recipients=(str(public),))), private


async def test_in_suite_2_it_is_sealed_verified_and_opened_with_an_sm2_key(run_dir: Path, pki: Pki) -> None:
    plan, private = in_suite_2(plan_in(run_dir, pki), run_dir / "keys")
    one = Recorder(plan, asyncio.get_running_loop())
    one.start()
    await emit(one, "safety", "net", "tele")
    one.close()
    report = verdict(one)
    assert (report.exit_code, report.findings) == (0, [])
    found = opened(log_of(one), [load_recipient_key(private)])
    assert sorted(record.stream for record in found if record.source == "reflex") == ["net", "safety", "tele"]


async def test_a_log_that_changes_its_suite_stays_one_chain(
    run_dir: Path, recorder: Recorder, pki: Pki
) -> None:
    await emit(recorder, "safety")
    recorder.close()
    plan, private = in_suite_2(plan_in(run_dir, pki), run_dir / "keys")
    after = Recorder(plan, asyncio.get_running_loop())
    after.start()
    await emit(after, "net")
    after.close()
    report = verdict(after)
    assert (report.exit_code, report.findings) == (0, [])
    assert [entry["kind"] for entry in ledger(after)].count("genesis") == 1
    both = [load_recipient_key(pki.recipient_key("department")), load_recipient_key(private)]
    kept = [record.stream for record in opened(log_of(after), both) if record.source == "reflex"]
    assert sorted(kept) == ["net", "safety"]
    assert [r.stream for r in opened(log_of(after), both[1:]) if r.source == "reflex"] == ["net"]


# ---- a whole life of a segment: written, witnessed, kept for its time, and deleted by order

DAY_NS = 86_400_000_000_000


class Calendar:
    """Wall time as the log sees it, some days from now."""

    def __init__(self) -> None:
        self.days = 0

    def clocks(self) -> Clocks:
        return Clocks(wall_ns=lambda: time.time_ns() + self.days * DAY_NS)


def receipt(recorder: Recorder, pki: Pki, calendar: Calendar) -> str:
    head = recorder.store.ledger.head
    now_s = int(time.time()) + calendar.days * 86_400
    claims = {"iss": WITNESS_KID, "aud": "FT-1", "iat": now_s, "n": head.n, "hash": head.hash}
    key = load_private_key(pki.witness.signing_key)
    return sign({**claims, "witness_time": now_s}, key=key, kid=WITNESS_KID, typ=WITNESS_TYP)


async def witness(recorder: Recorder, pki: Pki, calendar: Calendar) -> None:
    """As `remote` passes a receipt on; until it is in the ledger."""
    count = sum(entry["kind"] == "witness.ack" for entry in ledger(recorder))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(str(recorder.shell.folder / "recorder.sock"))
        sock.send(json.dumps({"type": "hello", "role": "remote", "boot": secrets.token_hex(16)}).encode())
        token = receipt(recorder, pki, calendar)
        sock.send(json.dumps({"type": "witness_ack", "token": token}).encode())
        await wait_until(lambda: sum(entry["kind"] == "witness.ack" for entry in ledger(recorder)) > count)


async def test_a_segment_is_deleted_by_order_when_its_time_is_over_and_the_log_stays_whole(
    run_dir: Path, pki: Pki
) -> None:
    calendar = Calendar()
    plan, loop = plan_in(run_dir, pki), asyncio.get_running_loop()
    first = Recorder(plan, loop, calendar.clocks())
    first.start()
    await emit(first, "safety", "net", "net")
    await witness(first, pki, calendar)
    first.close()
    calendar.days = 191
    second = Recorder(plan, loop, calendar.clocks())
    second.start()
    assert (await tell(second, {"type": "log_due"}))["segments"] == [], (
        "no witness has said that time is over"
    )
    await witness(second, pki, calendar)
    due = await tell(second, {"type": "log_due"})
    assert [(row["stream"], row["segno"]) for row in due["segments"]] == [("net", 1)], "safety is in service"
    named = [{key: row[key] for key in ("stream", "segno", "seal")} for row in due["segments"]]
    stolen = order(pki, "delete", segments=[{**named[0], "seal": "0" * 64}])
    assert (await tell(second, {"type": "log_delete", "order": stolen}))["ok"] is False
    answer = await tell(second, {"type": "log_delete", "order": order(pki, "delete", segments=named)})
    assert answer == {"type": "log_delete", "ok": True, "deleted": 1, "problems": []}
    second.close()
    assert not (log_of(second) / "net" / "0000000001.seg").exists()
    roots = load_roots([pki.root_jwk])
    report = verify(
        log_of(second),
        genesis=(log_of(second) / "ledger.jsonl").read_bytes().partition(b"\n")[0],
        order_keys=OrderKeys(roots, load_trust(pki.trust, roots)),
        witness_keys=dict([load_public_jwk(pki.witness_jwk)]),
        processes=1,
    )
    assert (report.exit_code, report.findings) == (0, [])
    assert (report.deleted, report.records_deleted) == (1, 2)
    kept = [record.stream for record in whole(second, pki) if record.source == "reflex"]
    assert kept == ["safety"]
