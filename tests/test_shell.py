"""What the modules share: who may ask what, bad input at a bounded rate, the beat and its watchdog."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.core.causes import MS
from agent.core.plan import Plan
from agent.link import Connection, Message
from agent.notify import Notifier
from agent.processes import BY_NAME, PROCESSES
from agent.shell import RECORDS_PER_S, RENEWALS_PER_TTL, TICK_NS, Shell, Ticker
from tests.core.factories import TIMES, but, small_plan
from tests.waiting import wait_until

TYPES = sorted({kind for row in PROCESSES for types in row.peers.values() for kind in types} | {"shutdown"})
ROLES = sorted({role for row in PROCESSES for role in row.peers} | {"stranger", ""})


def plan_in(run_dir: Path) -> Plan:
    return small_plan(run_dir=str(run_dir))


class House:
    """A shell that listens; `heard` is what the module itself would get."""

    def __init__(self, run_dir: Path, name: str = "reflex") -> None:
        plan = plan_in(run_dir)
        self.shell = Shell(plan, name, asyncio.get_running_loop())
        self.shell.folder.mkdir(parents=True, exist_ok=True)
        self.heard: list[Message] = []
        self.ended: list[Connection] = []
        self.records: list[tuple[str, dict[str, Any]]] = []
        self.shell.on_message = lambda _, message: self.heard.append(message)
        self.shell.on_end = self.ended.append
        self.shell.emit = self._emit
        self.shell.start()

    def _emit(self, kind: str, body: Mapping[str, object]) -> None:
        self.records.append((kind, dict(body)))

    @property
    def path(self) -> Path:
        socket_name = self.shell.row.socket
        assert socket_name is not None
        return self.shell.folder / socket_name

    def bad(self, source: str = "module_link") -> int:
        counts: Any = self.shell.meter.snapshot().get("bad_input_total", [])
        return sum(count for labels, count in counts if labels == [source])


class Visitor:
    """A raw client."""

    def __init__(self, path: Path, role: str | None = None) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.setblocking(False)
        self.sock.connect(str(path))
        if role is not None:
            self.say("hello", role=role, boot="0" * 32, pid=1)

    def say(self, packet_type: str, **fields: object) -> None:
        self.sock.send(json.dumps({"type": packet_type, **fields}).encode())

    async def hear(self) -> dict[str, Any]:
        """The next packet; the end of the connection is {}."""
        data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.sock, 1 << 17), 20)
        return dict(json.loads(data)) if data else {}


@pytest.fixture
async def house(run_dir: Path) -> AsyncIterator[House]:
    one = House(run_dir)
    yield one
    one.shell.close()


# ---- who may ask what


@pytest.mark.parametrize("name", [row.name for row in PROCESSES if row.socket])
async def test_what_no_row_of_the_table_permits_is_counted_and_reaches_nobody(
    run_dir: Path, name: str
) -> None:
    """Every role and every type there is, against every module."""
    house = House(run_dir, name)
    for role in ROLES:
        for kind in TYPES:
            if kind == "hello":
                continue
            permitted = kind in BY_NAME[name].peers.get(role, frozenset())
            bad, heard = house.bad(), len(house.heard)
            visitor = Visitor(house.path, role)
            visitor.say(kind, n=1)
            if permitted and kind in ("metrics", "status"):
                assert (await visitor.hear())["type"] == kind
            else:
                await wait_until(lambda: house.bad() > bad or len(house.heard) > heard)  # noqa: B023
            visitor.sock.close()
            reached = [message["type"] for message in house.heard[heard:] if message["type"] != "hello"]
            assert reached == ([kind] if permitted and kind not in ("metrics", "status") else [])
    house.shell.close()


async def test_without_a_hello_nobody_is_answered(house: House) -> None:
    visitor = Visitor(house.path)
    visitor.say("status")
    visitor.say("metrics")
    await wait_until(lambda: house.bad() == 2)
    assert house.heard == []
    visitor.sock.close()


async def test_a_role_is_kept(house: House) -> None:
    """Who came as `status` cannot become `remote` on the same connection."""
    visitor = Visitor(house.path, "status")
    visitor.say("hello", role="remote", boot="0" * 32, pid=1)
    visitor.say("command", token="x", n=1)
    await wait_until(lambda: house.bad() == 2)
    assert [message["type"] for message in house.heard if message["type"] == "command"] == []
    visitor.sock.close()


async def test_a_user_that_may_not_have_the_role_is_shown_out(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.shell.may_claim", lambda role, _: role == "status")
    visitor = Visitor(house.path, "remote")
    assert await visitor.hear() == {}
    assert (house.bad(), house.heard) == (1, [])
    assert house.records[0][1]["reason"].endswith("may not be 'remote'")
    friend = Visitor(house.path, "status")
    friend.say("status")
    assert (await friend.hear())["type"] == "status"
    friend.sock.close()
    visitor.sock.close()


async def test_what_a_module_says_of_itself(house: House) -> None:
    house.shell.status = lambda: {"channel": {"own": 5}}
    visitor = Visitor(house.path, "status")
    visitor.say("status")
    answer = await visitor.hear()
    assert answer["channel"] == {"own": 5}
    assert answer["module"]["name"] == "reflex"
    assert answer["module"]["boot"] == house.shell.boot
    assert answer["module"]["realtime"].keys() == {"fifo", "memory_locked", "collector_off", "reasons"}
    visitor.sock.close()


async def test_the_end_of_a_visitor_is_told_to_the_module(house: House) -> None:
    visitor = Visitor(house.path, "remote")
    visitor.say("beat")
    await wait_until(lambda: house.heard)
    visitor.sock.close()
    await wait_until(lambda: house.ended)
    assert [connection.role for connection in house.ended] == ["remote"]


async def test_packets_that_are_none_are_counted(house: House) -> None:
    visitor = Visitor(house.path, "remote")
    for packet in (b"\xff", b"[]", b"{}", b'{"type":"x"' + b" " * 100, b"[" * 5000):
        visitor.sock.send(packet)
    await wait_until(lambda: house.bad() == 5)
    visitor.sock.close()


# ---- bad input


class Clock:
    """`time` for the shell."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.5
        patch.setattr("agent.shell.time", SimpleNamespace(monotonic=lambda: self.now_s))


async def test_of_a_flood_so_many_are_recorded_each_second_and_the_rest_is_told_with_the_next(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    for _ in range(100):
        house.shell.bad_input("mqtt", "x" * 300)
    assert len(house.records) == RECORDS_PER_S
    assert house.records[0] == ("bad_input", {"source": "mqtt", "reason": "x" * 200, "left_out": 0})
    clock.now_s += 1
    house.shell.bad_input("mqtt", "y")
    house.shell.bad_input("mqtt", "y")
    assert [body["left_out"] for _, body in house.records[RECORDS_PER_S:]] == [100 - RECORDS_PER_S, 0]
    assert house.bad("mqtt") == 102


async def test_one_who_floods_does_not_hide_another(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    for _ in range(50):
        house.shell.bad_input("mqtt", "x")
    house.shell.bad_input("robot_link", "z")
    assert house.records[-1][1] == {"source": "robot_link", "reason": "z", "left_out": 0}


# ---- the beat


class Watchdog(Notifier):
    """Pings are counted."""

    def __init__(self) -> None:
        super().__init__({})
        self.pings: list[int | None] = []

    def watchdog(self, now_ns: int | None = None) -> bool:
        self.pings.append(now_ns)
        return True


async def test_each_beat_is_a_turn_and_after_it_the_watchdog_is_pinged(house: House) -> None:
    watchdog = house.shell.notifier = Watchdog()
    turns: list[int] = []

    def turn(now_ns: int) -> None:
        assert len(watchdog.pings) == len(turns)
        turns.append(now_ns)

    ticker = Ticker(house.shell, turn, period_ns=MS)
    await wait_until(lambda: len(turns) >= 5)
    ticker.close()
    ticker.close()
    assert watchdog.pings == turns == sorted(turns)
    count = len(turns)
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(turns) == count
    lag: Any = house.shell.meter.snapshot()["loop_lag_seconds"]
    assert lag


async def test_a_turn_that_did_not_come_to_its_end_pings_nobody(house: House) -> None:
    """Whoever does the work makes the signal."""
    watchdog = house.shell.notifier = Watchdog()
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: faults.append(context.get("exception"))
    )

    def turn(_: int) -> None:
        raise RuntimeError("half way")

    ticker = Ticker(house.shell, turn, period_ns=MS)
    await wait_until(lambda: faults)
    ticker.close()
    assert isinstance(faults[0], RuntimeError)
    assert watchdog.pings == []


@pytest.mark.parametrize(
    ("ttl_ms", "tick_ns"), [(20, 5 * MS), (40, 10 * MS), (100, TICK_NS), (1000, TICK_NS)]
)
async def test_a_permit_is_renewed_several_times_within_its_ttl(
    run_dir: Path, ttl_ms: int, tick_ns: int
) -> None:
    plan = small_plan(run_dir=str(run_dir), times=but(TIMES, {"ttl_ns": ttl_ms * MS}))
    shell = Shell(plan, "reflex", asyncio.get_running_loop())
    assert shell.tick_ns(TICK_NS) == tick_ns
    assert tick_ns * RENEWALS_PER_TTL <= ttl_ms * MS
    shell.close()


async def test_settling_is_recorded_with_the_plan_it_settles_for(house: House) -> None:
    """As `recorder` does: no scheduling class is asked for, so the test process keeps its own."""
    house.shell.row = BY_NAME["recorder"]
    house.shell.settle()
    ((kind, body),) = house.records
    assert kind == "module_started"
    assert body["plan"] == "d" * 64
    assert body["realtime"] == {
        "fifo": False,
        "memory_locked": False,
        "collector_off": False,
        "reasons": [],
    }
