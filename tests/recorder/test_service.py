import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.events import MAX_KIND, WINDOW, EventSink
from agent.link import Client, LinkError, Message
from agent.recorder.log import Record
from agent.recorder.service import MAX_EVENT, MAX_PACKET, MAX_QUEUED, SOURCE, RecorderService
from tests.link.peers import MY_UID, Heard, packet, raw_peer
from tests.recorder.logs import BOOT, OTHER_BOOT, Disk, bodies, kept, open_log, records, seqs
from tests.recorder.sealed.logs import abandon, check_ledger, check_whole, segments
from tests.waiting import wait_until

SELF = "ef" * 16
PEERS = {
    "reflex": frozenset({"hello", "event"}),
    "remote": frozenset({"hello", "event"}),
    "monitor": frozenset({"hello", "event", "metrics"}),
    "status": frozenset({"hello", "status"}),
}


class Rig:
    """A service over a sealed log whose disk can be broken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "log"
        self.path = folder / "s"
        self.disk = Disk()
        self.told: list[str | None] = []
        self.log = open_log(self.folder, self.disk)
        self.service = RecorderService(
            asyncio.get_running_loop(),
            socket_path=self.path,
            log=self.log,
            boot=SELF,
            allowed_uids=MY_UID,
            peers=PEERS,
            may_claim=lambda role, uid: role != "remote" or uid != os.getuid(),
            answers={"status": lambda: {"answer": 42}},
            on_trouble=self.told.append,
        )

    def close(self) -> None:
        self.service.close()
        self.log.close()


class Module:
    """A client of the recorder that sends what the test says."""

    def __init__(self, rig: Rig, role: str = "reflex", boot: object = BOOT) -> None:
        self.heard = Heard()
        self.client = Client(
            asyncio.get_running_loop(),
            rig.path,
            hello={"role": role, "boot": boot},
            allowed_uids=MY_UID,
            on_open=self.heard.opened.append,
            on_message=self.heard.on_message,
            on_end=self.heard.ended.append,
            on_bad=self.heard.bad.append,
            retry_ms=(1, 20),
        )
        self.client.start()

    @property
    def acknowledged(self) -> int:
        acks = [int(str(message["seq"])) for message in self.heard.messages if message["type"] == "ack"]
        assert acks == sorted(acks)
        return acks[-1] if acks else 0

    async def connected(self) -> None:
        await wait_until(lambda: self.client.connected)

    def send(self, **fields: object) -> None:
        assert self.client.send(fields)

    def event(self, seq: int, **changes: object) -> None:
        self.altered(seq, changes)

    def altered(self, seq: int, changes: dict[str, object]) -> None:
        self.send(**{**event(seq), **changes})


def event(seq: int) -> Message:
    return {
        "type": "event",
        "seq": seq,
        "stream": "safety",
        "kind": "e",
        "wall_ns": 1_700_000_000_000_000_000,
        "boottime_ns": 5,
        "body": {"n": seq},
    }


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    with closing(Rig(tmp_path)) as rig:
        rig.service.start()
        yield rig


@pytest.fixture
async def module(rig: Rig) -> AsyncIterator[Module]:
    module = Module(rig)
    await module.connected()
    yield module
    module.client.close()


async def all_heard(rig: Rig, module: Module, acknowledged: int, duplicates: int) -> None:
    await wait_until(lambda: module.acknowledged == acknowledged)
    await wait_until(lambda: rig.service.duplicates == duplicates)


async def on_disk(rig: Rig, seq: int) -> None:
    await wait_until(lambda: rig.log.last_seq("reflex", BOOT) == seq)


# ---- taking events


async def test_an_event_is_on_disk_before_it_is_acknowledged(rig: Rig, module: Module) -> None:
    module.event(1, body={"cause": "estop_pressed", "text": "急停"})
    await wait_until(lambda: module.acknowledged == 1)
    (found,) = [item for item in kept(rig.folder) if item.source == "reflex"]
    assert found == Record(
        "reflex",
        BOOT,
        1,
        "safety",
        "e",
        1_700_000_000_000_000_000,
        5,
        {"cause": "estop_pressed", "text": "急停"},
    )


async def test_what_arrives_together_is_synced_once_and_acknowledged_once(rig: Rig) -> None:
    await wait_until(lambda: rig.disk.syncs == 1)
    with closing(raw_peer(rig.path)) as peer:
        peer.send(packet(type="hello", role="reflex", boot=BOOT))
        for seq in range(1, 21):
            peer.send(packet(**event(seq)))
        await wait_until(lambda: rig.log.last_seq("reflex", BOOT) == 20)
        assert rig.disk.syncs == 2
        assert peer.recv(MAX_PACKET) == b'{"type":"ack","seq":20}'
        with pytest.raises(BlockingIOError):
            peer.recv(MAX_PACKET, socket.MSG_DONTWAIT)


async def test_what_is_on_disk_is_not_kept_twice_also_after_a_restart(tmp_path: Path) -> None:
    for duplicates, first_ack in ((2, 3), (5, 3)):
        with closing(Rig(tmp_path)) as rig:
            rig.service.start()
            module = Module(rig)
            await module.connected()
            for seq in (1, 2, 2, 1, 3):
                module.event(seq)
            await all_heard(rig, module, 3, duplicates)
            module.client.close()
            assert seqs(kept(rig.folder)) == [1, 2, 3]
            assert module.heard.messages[0] == {"type": "ack", "seq": first_ack}


async def test_each_start_of_a_module_counts_from_one(rig: Rig, module: Module) -> None:
    module.event(1)
    other = Module(rig, boot=OTHER_BOOT)
    await other.connected()
    other.event(1)
    await wait_until(lambda: module.acknowledged == other.acknowledged == 1)
    assert seqs(kept(rig.folder)) == [1, 1]
    other.client.close()


async def test_numbers_missing_on_arrival_are_noted_before_the_event_that_shows_it(
    rig: Rig, module: Module
) -> None:
    for seq in (1, 5, 6):
        module.event(seq)
    await wait_until(lambda: module.acknowledged == 6)
    (loss,) = bodies(rig.folder, "loss")
    assert loss == {"source": "reflex", "boot": BOOT, "first_seq": 2, "last_seq": 4, "count": 3}
    assert [item.kind for item in kept(rig.folder) if item.source == SOURCE][-1] == "loss"


async def test_losses_are_counted_by_the_stream_the_sender_names(rig: Rig, module: Module) -> None:
    module.event(1, kind="loss", body={"stream": "tele", "count": 7})
    module.event(2, kind="loss", body={"stream": "nonsense", "count": 7})
    module.event(3, kind="loss", body={"stream": "net", "count": "7"})
    module.event(4, kind="loss", body={"stream": ["net"], "count": -7})
    await wait_until(lambda: module.acknowledged == 4)
    assert rig.service.lost == {"safety": 0, "net": 0, "tele": 7}


# ---- what is refused


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 0},
        {"seq": -1},
        {"seq": 1.0},
        {"seq": True},
        {"seq": 2**63},
        {"seq": None},
        {"wall_ns": "now"},
        {"boottime_ns": -1},
        {"stream": "ledger"},
        {"stream": ["safety"]},
        {"kind": ""},
        {"kind": "k" * (MAX_KIND + 1)},
        {"kind": 7},
        {"body": []},
        {"body": None},
    ],
)
async def test_a_malformed_event_is_counted_and_recorded_and_the_module_stays(
    rig: Rig, module: Module, change: dict[str, object]
) -> None:
    module.altered(1, change)
    module.event(2)
    await wait_until(lambda: module.acknowledged == 2)
    assert rig.service.refused == 1
    (bad,) = bodies(rig.folder, "bad_input")
    assert bad == {"count": 1, "reason": f"reflex (uid {os.getuid()}): malformed event"}
    assert seqs(kept(rig.folder)) == [2]
    assert module.heard.ended == []


async def test_a_flood_of_nonsense_is_recorded_at_a_bounded_rate(rig: Rig, module: Module) -> None:
    for _ in range(100):
        module.send(type="nonsense")
    module.event(1)
    await wait_until(lambda: module.acknowledged == 1)
    assert rig.service.refused == 100
    assert [bad["count"] for bad in bodies(rig.folder, "bad_input")] == [1]
    rig.service.close()
    assert [bad["count"] for bad in bodies(rig.folder, "bad_input")] == [1, 99]


async def test_the_rest_of_a_flood_is_recorded_when_its_second_is_over(
    rig: Rig, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.recorder.packets.BAD_EVERY_S", 0.01)
    for _ in range(3):
        module.send(type="nonsense")
    await wait_until(lambda: len(bodies(rig.folder, "bad_input")) == 2)
    await wait_until(lambda: rig.service._bad._handle is None)
    module.send(type="nonsense")
    await wait_until(lambda: len(bodies(rig.folder, "bad_input")) == 3)
    assert [bad["count"] for bad in bodies(rig.folder, "bad_input")] == [1, 2, 1]


@pytest.mark.parametrize(
    ("role", "boot"),
    [
        ("reflex", "AB" * 16),
        ("reflex", "ab" * 15),
        ("reflex", BOOT + "\n"),
        ("reflex", None),
        ("reflex", 7),
        ("recorder", BOOT),
        ("stranger", BOOT),
        ("", BOOT),
        ("remote", BOOT),
    ],
)
async def test_a_hello_that_nothing_permits_is_the_end(rig: Rig, role: str, boot: object) -> None:
    module = Module(rig, role, boot)
    await wait_until(lambda: module.heard.ended)
    module.client.close()
    assert rig.service.refused >= 1
    assert "refused" in str(bodies(rig.folder, "bad_input")[0]["reason"])


async def test_without_hello_nothing_is_heard(rig: Rig) -> None:
    with closing(raw_peer(rig.path)) as peer:
        peer.send(packet(**event(1)))
        await wait_until(lambda: rig.service.refused)
        assert peer.recv(1) == b""
    assert seqs(kept(rig.folder)) == []


async def test_a_second_hello_with_another_boot_is_the_end(rig: Rig, module: Module) -> None:
    module.send(type="hello", role="reflex", boot=BOOT)
    module.event(1)
    await wait_until(lambda: module.acknowledged == 1)
    module.send(type="hello", role="reflex", boot=OTHER_BOOT)
    await wait_until(lambda: module.heard.ended)


async def test_a_role_may_send_only_what_the_table_permits(rig: Rig) -> None:
    status = Module(rig, "status")
    await status.connected()
    status.event(1)
    status.send(type="metrics")
    status.send(type="status")
    await wait_until(lambda: status.heard.messages)
    assert status.heard.messages == [{"type": "status", "answer": 42}]
    assert rig.service.refused == 2
    assert seqs(kept(rig.folder), "status") == []
    status.client.close()


# ---- figures


async def test_metrics_have_the_figures_of_every_stream(rig: Rig, module: Module) -> None:
    monitor = Module(rig, "monitor")
    await monitor.connected()
    module.event(1)
    module.event(2, stream="tele")
    await wait_until(lambda: module.acknowledged == 2)
    monitor.send(type="metrics")
    await wait_until(lambda: [m for m in monitor.heard.messages if m["type"] == "metrics"])
    answer = monitor.heard.messages[-1]
    streams = answer["streams"]
    assert isinstance(streams, dict)
    assert {name: row["records"] for name, row in streams.items()} == {"safety": 2, "net": 0, "tele": 1}
    assert streams["tele"]["bytes"] > 0
    assert streams["tele"]["oldest_wall_ns"] > 1_700_000_000_000_000_000
    assert streams["net"] == {"records": 0, "bytes": 0, "oldest_wall_ns": 0, "lost": 0}
    assert answer["senders"] == ["monitor", "reflex"]
    assert answer["last_commit_wall_ns"] == rig.service.last_commit_wall_ns > 0
    assert (answer["trouble"], answer["queued"], answer["pid"]) == (None, 0, os.getpid())
    monitor.client.close()


# ---- a disk that fails


async def test_a_full_disk_delays_acknowledgements_and_loses_nothing(rig: Rig, module: Module) -> None:
    module.event(1)
    await wait_until(lambda: module.acknowledged == 1)
    rig.disk.fits = 0
    for seq in (2, 3):
        module.event(seq)
    await wait_until(lambda: rig.told)
    assert "ENOSPC" in str(rig.told[0])
    assert rig.service.trouble == rig.told[0]
    for seq in (4, 5, 4):
        module.event(seq)
    await wait_until(lambda: rig.service.write_errors >= 2)
    assert module.acknowledged == 1
    assert seqs(kept(rig.folder)) == [1]
    rig.disk.fits = None
    await wait_until(lambda: module.acknowledged == 5)
    assert rig.told[1:] == [None]
    assert rig.service.trouble is None
    assert seqs(kept(rig.folder)) == [1, 2, 3, 4, 5]
    await wait_until(lambda: bodies(rig.folder, "log_not_writable"))
    assert bodies(rig.folder, "log_not_writable")[0]["reason"] == rig.told[0]
    check_ledger(rig.folder)


async def test_a_module_that_comes_back_meanwhile_is_not_kept_twice(rig: Rig, module: Module) -> None:
    rig.disk.fails_sync = True
    module.event(1)
    await wait_until(lambda: rig.service.trouble)
    module.client.close()
    again = Module(rig)
    await again.connected()
    again.event(1)
    again.event(2)
    await wait_until(lambda: rig.service.duplicates == 1)
    rig.disk.fails_sync = False
    await wait_until(lambda: again.acknowledged == 2)
    assert seqs(kept(rig.folder)) == [1, 2]
    again.client.close()


async def test_while_nothing_can_be_written_memory_is_bounded(rig: Rig) -> None:
    rig.disk.fits = 0
    with closing(raw_peer(rig.path)) as flooder:
        flooder.send(packet(type="hello", role="reflex", boot=BOOT))
        for seq in range(1, MAX_QUEUED + 1):
            await wait_until(lambda: sent(flooder, packet(**event(seq))))  # noqa: B023 - awaited here
        await wait_until(lambda: rig.service._waiting["reflex"] == MAX_QUEUED)
        for _ in range(MAX_QUEUED + 5):
            rig.service.note("own", {})
        queued = len(rig.service._queue)
        assert sent(flooder, packet(**event(MAX_QUEUED + 1)))
        await wait_until(lambda: rig.service.refused)
        assert len(rig.service._queue) == queued <= 2 * MAX_QUEUED + 2
        assert rig.service.lost["safety"] > 0
    rig.disk.fits = None
    await wait_until(lambda: rig.log.last_seq("reflex", BOOT) == MAX_QUEUED)
    assert seqs(kept(rig.folder)) == list(range(1, MAX_QUEUED + 1))


def sent(peer: socket.socket, data: bytes) -> bool:
    try:
        peer.send(data, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    return True


async def test_refusals_wait_while_nothing_can_be_written(
    rig: Rig, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.recorder.packets.BAD_EVERY_S", 0.01)
    rig.disk.fits = 0
    module.event(1)
    await wait_until(lambda: rig.service.trouble)
    queued = len(rig.service._queue)
    for _ in range(5):
        module.send(type="nonsense")
    await wait_until(lambda: rig.service.refused == 5)
    await wait_until(lambda: rig.service.write_errors >= 2)
    assert len(rig.service._queue) == queued
    rig.disk.fits = None
    await wait_until(lambda: bodies(rig.folder, "bad_input"))
    assert bodies(rig.folder, "bad_input")[0]["count"] == 5


async def test_a_module_that_was_frozen_gets_its_acknowledgement_later(rig: Rig, module: Module) -> None:
    (connection,) = rig.service._server.connections
    connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    asyncio.get_running_loop().remove_reader(module.heard.opened[0]._sock.fileno())
    seq = 0
    while rig.service._ack_handle is None:
        seq += 1
        assert seq < 1000
        module.event(seq)
        await on_disk(rig, seq)
    assert module.acknowledged == 0
    frozen = module.heard.opened[0]
    asyncio.get_running_loop().add_reader(frozen._sock.fileno(), frozen._readable)
    await wait_until(lambda: module.acknowledged == seq)


# ---- its own records


async def test_its_start_and_what_it_repaired_are_recorded(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log")
    log.append(records(1, 3))
    (open_one,) = segments(tmp_path / "log")
    abandon(log)
    with open_one.path.open("r+b") as file:
        file.seek(open_one.end)
        file.write(b"torn")
    with closing(Rig(tmp_path)) as rig:
        rig.service.start()
        await wait_until(lambda: bodies(rig.folder, "seg_recover"))
    (found,) = bodies(rig.folder, "seg_recover")
    torn = (rig.folder / "safety" / str(found["kept_as"])).read_bytes()
    assert torn[:4] == b"torn"
    assert found["torn_bytes"] == len(torn)
    assert str(found["segment"]).endswith(open_one.path.name)
    assert [item.kind for item in kept(rig.folder) if item.source == SOURCE] == [
        "recorder_started",
        "seg_recover",
    ]
    check_whole(rig.folder)


async def test_a_note_takes_any_value(rig: Rig) -> None:
    rig.service.note("odd", {"path": Path("a"), "nan": float("nan"), "huge": 2**70})
    await wait_until(lambda: bodies(rig.folder, "odd"))
    assert bodies(rig.folder, "odd") == [
        {"path": "PosixPath('a')", "nan": "nan", "huge": "integer of 71 bits"}
    ]


async def test_close_keeps_what_has_arrived(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.service.start()
    rig.disk.fits = 0
    rig.service.note("first", {})
    await wait_until(lambda: rig.service.trouble)
    rig.disk.fits = None
    rig.service.note("last", {})
    rig.close()
    rig.close()
    rig.service.note("late", {})
    kinds = [item.kind for item in kept(rig.folder)]
    assert kinds == ["recorder_started", "first", "last", "log_not_writable"]
    assert not rig.path.exists()


async def test_close_on_a_full_disk_ends_all_the_same(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.service.start()
    rig.disk.fits = 0
    rig.close()
    assert kept(rig.folder) == []


async def test_one_recorder_per_socket(rig: Rig, tmp_path: Path) -> None:
    log = open_log(tmp_path / "other")
    second = RecorderService(
        asyncio.get_running_loop(),
        socket_path=rig.path,
        log=log,
        boot=SELF,
        allowed_uids=MY_UID,
        peers=PEERS,
    )
    with closing(log), pytest.raises(LinkError, match="another process listens here"):
        second.start()


async def test_with_a_real_sink(rig: Rig) -> None:
    loop = asyncio.get_running_loop()
    with closing(EventSink(loop, rig.path, source="monitor", boot=BOOT, allowed_uids=MY_UID)) as sink:
        sink.start()
        for number in range(1000):
            sink.emit("e", {"n": number, "odd": object()}, stream="tele")
        sink.emit("last", {})  # takes along what still waits for company
        await wait_until(lambda: not sink.pending)
    found = [item for item in kept(rig.folder) if item.kind == "e"]
    assert [item.body["n"] for item in found] == list(range(1000))
    assert {item.stream for item in found} == {"tele"}
    check_ledger(rig.folder)


# ---- waiting for company, what there is no room for, and messages that are no events


async def test_net_and_tele_wait_for_company_and_go_with_the_first_commit(rig: Rig, module: Module) -> None:
    await wait_until(lambda: rig.disk.syncs >= 1)  # its own start
    syncs = rig.disk.syncs
    module.altered(1, {"stream": "tele"})
    module.altered(2, {"stream": "net"})
    await all_heard(rig, module, 0, 0)
    assert rig.disk.syncs == syncs
    module.event(3)
    await wait_until(lambda: module.acknowledged == 3)
    assert seqs(kept(rig.folder)) == [1, 2, 3]
    assert rig.disk.syncs == syncs + 3, "one for each stream"


async def test_a_sender_with_half_its_window_out_waits_for_nobody(rig: Rig, module: Module) -> None:
    for seq in range(1, WINDOW // 2 + 2):
        module.altered(seq, {"stream": "tele"})
    await wait_until(lambda: module.acknowledged >= WINDOW // 2)


async def test_what_there_is_no_room_for_is_counted_and_acknowledged(rig: Rig, module: Module) -> None:
    rig.service.admits = lambda stream: stream != "tele"
    module.altered(1, {"stream": "tele"})
    module.event(2)
    await wait_until(lambda: module.acknowledged == 2)
    assert seqs(kept(rig.folder)) == [2]
    assert rig.service.lost["tele"] == 1
    assert not bodies(rig.folder, "loss"), "it did arrive"


async def test_an_event_that_is_too_large_is_refused(rig: Rig, module: Module) -> None:
    module.altered(1, {"body": {"text": "x" * MAX_EVENT}})
    module.event(1)
    await wait_until(lambda: module.acknowledged == 1)
    assert rig.service.refused == 1


async def test_what_is_written_is_shown_to_the_module_once(rig: Rig, module: Module) -> None:
    shown: list[Record] = []
    rig.service.on_written = shown.extend
    module.event(1)
    module.event(2)
    module.event(2)
    await wait_until(lambda: module.acknowledged == 2)
    assert seqs(shown) == [1, 2]
