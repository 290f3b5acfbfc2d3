"""The robot's side in Python: its end of the link (PROTOCOL 2)."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdk.python.robot_warden import MAX_PACKET, RobotLink
from tests.sdk.robot_agent import Agent


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    end = Agent(tmp_path / "robot.sock")
    yield end
    end.close()


@pytest.fixture
def link(tmp_path: Path) -> Iterator[RobotLink]:
    end = RobotLink(tmp_path / "robot.sock", "福小安", 20)
    yield end
    end.close()


@pytest.fixture
def linked(agent: Agent, link: RobotLink) -> tuple[Agent, RobotLink]:
    assert link.connect()
    agent.accept()
    assert agent.heard() == {"type": "hello", "name": "福小安", "beat_ms": 20}
    return agent, link


def test_without_an_agent_nothing_is_sent_and_nothing_raises(link: RobotLink) -> None:
    assert not link.connect()
    assert not link.connected
    assert link.fileno() == -1
    assert not link.beat({})
    assert not link.authorise("1", "patrol")
    assert not link.event("unlawful_content")
    assert not link.step_result("1", True)
    assert link.poll() == []
    link.close()


def test_what_the_robot_says(linked: tuple[Agent, RobotLink]) -> None:
    agent, link = linked
    assert link.beat()
    assert link.beat({"speed_mps": 0.5, "still": False, "task": "巡逻"})
    assert link.authorise("a1", "patrol", {"leg": 3})
    assert link.authorise("a2", "charge")
    assert link.event("unlawful_content", {"where": "hall"})
    assert link.step_result("s1", False, "still moving")
    assert [agent.heard() for _ in range(6)] == [
        {"type": "beat", "n": 1},
        {"type": "beat", "n": 2, "telemetry": {"speed_mps": 0.5, "still": False, "task": "巡逻"}},
        {"type": "authorise", "id": "a1", "task": "patrol", "args": {"leg": 3}},
        {"type": "authorise", "id": "a2", "task": "charge", "args": {}},
        {"type": "event", "kind": "unlawful_content", "detail": {"where": "hall"}},
        {"type": "step_result", "id": "s1", "ok": False, "detail": "still moving"},
    ]


def test_what_the_robot_hears(linked: tuple[Agent, RobotLink]) -> None:
    agent, link = linked
    told: list[dict[str, object]] = [
        {"type": "welcome", "robot_id": "FT-1", "permits": ["a", "b"], "ttl_ms": 100, "epoch": 3},
        {"type": "state", "response": "hold", "epoch": 4, "speed_permille": 0, "causes": ["too_close"]},
    ]
    for message in told:
        agent.say(message)
    assert link.poll() == told
    assert link.poll() == []


@pytest.mark.parametrize(
    "packet",
    [
        b"{",
        b"\xff\xfe{}",
        '{"type":"state"}'.encode("utf-16"),
        b"[]",
        b"{}",
        b'{"type":1}',
        b'{"type":"state","epoch":NaN}',
        b'{"type":' + b"[" * 4000 + b"]" * 4000 + b"}",
        b'{"type":"state","x":"' + b"x" * MAX_PACKET + b'"}',
    ],
)
def test_what_is_no_message_is_counted_and_dropped(linked: tuple[Agent, RobotLink], packet: bytes) -> None:
    agent, link = linked
    agent.say(packet)
    agent.say({"type": "state"})
    assert link.poll() == [{"type": "state"}]
    assert link.bad_packets == 1
    assert link.connected


@pytest.mark.parametrize(
    "telemetry",
    [{"speed_mps": float("nan")}, {"task": "x" * MAX_PACKET}, {"task": object()}, {"task": "\ud800"}],
    ids=["NaN", "too long", "no JSON", "no UTF-8"],
)
def test_what_cannot_be_said_is_not_sent(
    linked: tuple[Agent, RobotLink], telemetry: dict[str, object]
) -> None:
    agent, link = linked
    assert not link.beat(telemetry)
    assert link.connected
    assert link.beat()
    assert agent.heard() == {"type": "beat", "n": 1}


def test_the_longest_packet_is_sent(linked: tuple[Agent, RobotLink]) -> None:
    agent, link = linked
    room = MAX_PACKET - len(b'{"type":"event","kind":"k","detail":""}')
    assert not link.event("k", "x" * (room + 1))
    assert link.event("k", "x" * room)
    assert len(agent.heard()["detail"]) == room


def test_a_flood_is_taken_in_portions(linked: tuple[Agent, RobotLink]) -> None:
    agent, link = linked
    assert agent.robot is not None
    agent.robot.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    for n in range(40):
        agent.say({"type": "state", "n": n})
    assert [len(link.poll()) for _ in range(3)] == [32, 8, 0]


def test_an_agent_that_does_not_read_never_holds_the_robot_up(linked: tuple[Agent, RobotLink]) -> None:
    agent, link = linked
    while link.beat({"task": "x" * 4000}):
        pass
    assert link.connected, "the connection is good, its other end is busy"
    sent = link.beats
    heard = [agent.heard()["n"] for _ in range(sent)]
    assert heard == list(range(1, sent + 1))
    assert link.beat()


def test_the_end_of_the_connection_is_seen_by_a_poll(linked: tuple[Agent, RobotLink]) -> None:
    agent, link = linked
    agent.say({"type": "state"})
    agent.hang_up()
    assert link.poll() == [{"type": "state"}], "what was said before is still heard"
    assert not link.connected
    assert link.fileno() == -1


def test_the_end_of_the_connection_is_seen_by_a_send(linked: tuple[Agent, RobotLink]) -> None:
    agent, link = linked
    agent.hang_up()
    assert not link.beat()
    assert not link.connected


def test_a_reset_connection_is_an_ended_one(linked: tuple[Agent, RobotLink]) -> None:
    agent, link = linked
    link.beat()  # unread when the agent hangs up: the next receive is a reset
    agent.hang_up()
    assert link.poll() == []
    assert not link.connected


def test_connecting_again_begins_anew(linked: tuple[Agent, RobotLink]) -> None:
    agent, link = linked
    link.beat()
    assert link.connect()
    agent.hang_up()
    agent.accept()
    assert agent.heard()["type"] == "hello"
    link.beat()
    assert agent.heard() == {"type": "beat", "n": 1}
