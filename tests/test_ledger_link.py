"""The ledger's way through `remote`: bounded both ways, and behind everything that a stop needs."""

import json
from collections.abc import Mapping

import pytest

from agent.ledger_link import (
    MAX_ON_THEIR_WAY,
    MAX_RECEIPT_BYTES,
    MAX_WAITING,
    MAX_WAITING_BYTES,
    RECEIPTS_PER_TICK,
    LedgerLink,
)
from agent.link import Message
from agent.mqtt import MAX_PACKET, Outgoing

TOPIC = "warden/v1/R-1/ledger"
HASH = "ab" * 32


class Broker:
    """The guardians' link; nothing on its way is acknowledged until `settle`."""

    def __init__(self) -> None:
        self.connected = True
        self.waiting = 0
        self.sent: list[Outgoing] = []

    def publish(self, packet: Outgoing) -> None:
        self.waiting += 1
        self.sent.append(packet)

    def settle(self) -> list[bytes]:
        """What was published since the last time, acknowledged."""
        sent, self.sent, self.waiting = self.sent, [], 0
        assert {(packet.topic, packet.qos, packet.retain) for packet in sent} <= {(TOPIC, 1, False)}
        return [packet.payload for packet in sent]


class Scene:
    def __init__(self) -> None:
        self.broker = Broker()
        self.room = 1000
        self.offered: list[Mapping[str, object]] = []
        self.bad: list[str] = []
        self.link = LedgerLink("R-1", self.broker, offer=self.offer, bad=self.bad.append)

    def offer(self, message: Mapping[str, object]) -> bool:
        if len(self.offered) >= self.room:
            return False
        self.offered.append(message)
        return True

    def tell(self, n: int = 0, **changes: object) -> bool:
        message: Message = {"type": "ledger", "n": n, "line": f"line {n}", "hash": HASH}
        return self.link.told({**message, "head": {"n": n, "hash": HASH}, **changes})


@pytest.fixture
def scene() -> Scene:
    return Scene()


# ---- out


def test_a_line_goes_out_at_once_as_it_stands(scene: Scene) -> None:
    assert scene.tell(3, line='{"v":1,"急停":"x"}')
    assert scene.broker.settle() == ['{"v":1,"急停":"x"}'.encode()]
    assert scene.link.head == {"n": 3, "hash": HASH}


def test_few_lines_are_on_their_way_at_once_and_the_rest_follows_in_order(scene: Scene) -> None:
    for n in range(10):
        assert scene.tell(n)
    sent = [scene.broker.settle()]
    while sent[-1]:
        scene.link.tick()
        sent.append(scene.broker.settle())
    assert [len(part) for part in sent] == [MAX_ON_THEIR_WAY, MAX_ON_THEIR_WAY, 2, 0]
    assert [line for part in sent for line in part] == [b"line %d" % n for n in range(10)]


def test_while_replies_wait_no_line_is_published(scene: Scene) -> None:
    scene.broker.waiting = MAX_ON_THEIR_WAY
    scene.tell()
    scene.link.tick()
    assert scene.broker.sent == []


def test_what_there_is_no_room_for_is_dropped_and_counted(scene: Scene) -> None:
    scene.broker.waiting = MAX_ON_THEIR_WAY
    for n in range(MAX_WAITING + 5):
        scene.tell(n)
    assert scene.link.dropped == 5
    assert scene.link.head == {"n": MAX_WAITING + 4, "hash": HASH}


def test_bytes_are_bounded_too(scene: Scene) -> None:
    scene.broker.waiting = MAX_ON_THEIR_WAY
    line = "x" * 60_000
    for n in range(10):
        scene.tell(n, line=line)
    assert scene.link.dropped == 10 - MAX_WAITING_BYTES // 60_000


def test_without_a_link_nothing_waits_for_one(scene: Scene) -> None:
    scene.broker.waiting = MAX_ON_THEIR_WAY
    scene.tell(0)
    scene.broker.connected, scene.broker.waiting = False, 0
    scene.tell(1)
    scene.link.tick()
    assert (scene.broker.sent, scene.link.dropped) == ([], 2)
    assert scene.link.head == {"n": 1, "hash": HASH}
    scene.broker.connected = True
    scene.tell(2)
    assert scene.broker.settle() == [b"line 2"]


def test_a_line_that_the_broker_would_hang_up_for_is_not_published(scene: Scene) -> None:
    room = MAX_PACKET - len(TOPIC) - 32
    assert scene.tell(line="x" * room)
    assert scene.tell(line="x" * (room + 1))
    assert len(scene.broker.settle()) == 1
    assert scene.bad == [f"a ledger line of {room + 1} bytes, at most {room} can be published"]


HEAD = {"n": 1, "hash": HASH}
MALFORMED: list[dict[str, object]] = [
    {"type": "space", "level": 1},
    {"line": 7},
    {"line": None},
    {"head": None},
    {"head": [1]},
    {"head": {**HEAD, "n": -1}},
    {"head": {**HEAD, "n": True}},
    {"head": {**HEAD, "n": 2**60}},
    {"head": {**HEAD, "hash": "A" * 64}},
    {"head": {**HEAD, "hash": None}},
]


@pytest.mark.parametrize("changes", MALFORMED, ids=json.dumps)
def test_what_is_malformed_is_refused(scene: Scene, changes: dict[str, object]) -> None:
    assert not scene.tell(**changes)  # type: ignore[arg-type]
    assert (scene.broker.sent, scene.link.head) == ([], None)


# ---- in


def test_receipts_go_to_the_recorder_unjudged(scene: Scene) -> None:
    scene.link.acknowledged(b"not.even.one", retained=False)
    assert scene.offered == []
    scene.link.tick()
    assert scene.offered == [{"type": "witness_ack", "token": "not.even.one"}]


@pytest.mark.parametrize("payload", [b"x" * (MAX_RECEIPT_BYTES + 1), "急停".encode(), b"\xff"])
def test_what_can_be_none_goes_nowhere(scene: Scene, payload: bytes) -> None:
    scene.link.acknowledged(payload, retained=False)
    scene.link.tick()
    assert (scene.offered, len(scene.bad)) == ([], 1)


def test_a_retained_one_goes_nowhere(scene: Scene) -> None:
    scene.link.acknowledged(b"a.b.c", retained=True)
    scene.link.tick()
    assert (scene.offered, scene.bad) == ([], ["ledger/ack: 5 bytes, retained"])


def test_a_flood_of_receipts_is_bounded_and_kept_in_order(scene: Scene) -> None:
    for n in range(MAX_WAITING + 9):
        scene.link.acknowledged(b"%d" % n, retained=False)
    assert scene.link.dropped == 9
    scene.link.tick()
    assert [message["token"] for message in scene.offered] == [str(n) for n in range(RECEIPTS_PER_TICK)]


def test_while_the_recorder_takes_none_they_wait(scene: Scene) -> None:
    scene.room = 0
    scene.link.acknowledged(b"a", retained=False)
    scene.link.acknowledged(b"b", retained=False)
    scene.link.tick()
    scene.room = 1
    scene.link.tick()
    scene.room = 9
    scene.link.tick()
    assert [message["token"] for message in scene.offered] == ["a", "b"]
