"""The robot link over a real socket: every packet of PROTOCOL 2, every way to get one wrong, and the end."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.link import MAX_ROBOT_PACKET
from agent.robot_link import MAX_KEYS, RobotLink
from tests.link.peers import MY_UID, OTHER_UID
from tests.waiting import wait_until

WELCOME = {"robot_id": "R-1", "permits": ["/run/a", "/run/b"], "ttl_ms": 100, "epoch": 7}


class Agent:
    """The link with everything it tells written down; time is the test's."""

    def __init__(self, path: Path, allowed_uids: frozenset[int] = MY_UID) -> None:
        self.path = path
        self.told: list[tuple[object, ...]] = []
        self.bad: list[str] = []
        self.now_ns = 1000
        self.tasks = {"guide": (True, ""), "dance": (False, "task_not_authorised")}
        self.link = RobotLink(
            asyncio.get_running_loop(),
            path,
            allowed_uids=allowed_uids,
            welcome=lambda: WELCOME,
            on_hello=lambda: self.told.append(("hello", self.link.name)),
            on_gone=lambda: self.told.append(("gone",)),
            on_beat=lambda: self.told.append(("beat", self.link.last_beat_ns)),
            on_event=lambda kind, detail: self.told.append(("event", kind, detail)),
            on_step_result=lambda *result: self.told.append(("step_result", *result)),
            authorise=lambda task: self.tasks.get(task, (False, "stopped")),
            epoch=lambda: 9,
            now_ns=lambda: self.now_ns,
            on_bad=self.bad.append,
        )
        self.link.start()

    def telemetry(self) -> dict[str, object]:
        return {key: value for key, (value, _) in self.link.telemetry.items()}


class Robot:
    """A raw client: it may send whatever it likes."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.setblocking(False)
        self.sock.connect(str(path))

    def send(self, packet: bytes) -> None:
        self.sock.send(packet)

    def say(self, packet_type: str, /, **fields: object) -> None:
        self.send(json.dumps({"type": packet_type, **fields}).encode())

    async def hear(self) -> dict[str, Any]:
        """The next packet; the end of the connection is {}."""
        loop = asyncio.get_running_loop()
        data = await asyncio.wait_for(loop.sock_recv(self.sock, MAX_ROBOT_PACKET), 20)
        return dict(json.loads(data)) if data else {}


@pytest.fixture
async def agent(run_dir: Path) -> AsyncIterator[Agent]:
    one = Agent(run_dir / "robot.sock")
    yield one
    one.link.close()


@pytest.fixture
async def robot(agent: Agent) -> AsyncIterator[Robot]:
    """One that has not said hello."""
    one = Robot(agent.path)
    yield one
    one.sock.close()


@pytest.fixture
async def greeted(agent: Agent, robot: Robot) -> Robot:
    """One that has, and was welcomed."""
    robot.say("hello", name="福小安", beat_ms=20)
    assert await robot.hear() == {"type": "welcome", **WELCOME}
    agent.told.clear()
    return robot


async def heard(agent: Agent, robot: Robot) -> None:
    """Everything the robot said up to now has been judged."""
    robot.say("authorise", id="last", task="guide")
    while (await robot.hear()).get("id") != "last":
        pass


# ---- what is said rightly


async def test_hello_is_welcomed_and_told(agent: Agent, robot: Robot) -> None:
    robot.say("hello", name="福小安", beat_ms=20)
    assert await robot.hear() == {"type": "welcome", **WELCOME}
    assert agent.told == [("hello", "福小安")]
    assert (agent.link.since_ns, agent.link.last_beat_ns) == (1000, 1000)


async def test_before_hello_no_robot_is_there(agent: Agent, robot: Robot) -> None:
    assert (agent.link.since_ns, agent.link.name, agent.link.telemetry) == (0, "", {})


async def test_a_beat_is_told_with_its_time_and_telemetry(agent: Agent, greeted: Robot) -> None:
    agent.now_ns = 2000
    sent = {"speed_mps": 0.5, "battery_pct": 80, "still": False, "task": "guide", "x_m": -1e3}
    greeted.say("beat", n=1, telemetry=sent)
    await heard(agent, greeted)
    assert agent.told == [("beat", 2000)]
    assert agent.link.telemetry == {key: (value, 2000) for key, value in sent.items()}
    agent.now_ns = 3000
    greeted.say("beat", n=2)
    greeted.say("beat", n=3, telemetry={"speed_mps": 0})
    await heard(agent, greeted)
    assert agent.link.telemetry["speed_mps"] == (0, 3000)
    assert agent.link.telemetry["still"] == (False, 2000)
    assert agent.link.last_beat_ns == 3000
    assert agent.bad == []


@pytest.mark.parametrize(
    ("task", "allowed", "reason"),
    [("guide", True, ""), ("dance", False, "task_not_authorised"), ("never heard of", False, "stopped")],
)
async def test_leave_is_asked_and_answered(
    agent: Agent, greeted: Robot, task: str, allowed: bool, reason: str
) -> None:
    greeted.say("authorise", id=17, task=task, args={"to": "hall"})
    verdict = {"type": "verdict", "id": 17, "allowed": allowed, "reason": reason, "epoch": 9}
    assert await greeted.hear() == verdict


async def test_events_and_results_of_steps_are_told(agent: Agent, greeted: Robot) -> None:
    greeted.say("event", kind="unlawful_content", detail="x" * 600)
    greeted.say("event", kind="note")
    greeted.say("step_result", id="stop_motion-1", ok=True, detail="done")
    greeted.say("step_result", id="s" * 100, ok=False)
    await heard(agent, greeted)
    assert agent.told == [
        ("event", "unlawful_content", "x" * 500),
        ("event", "note", ""),
        ("step_result", "stop_motion-1", True, "done"),
        ("step_result", "s" * 64, False, ""),
    ]
    assert agent.bad == []


async def test_what_is_sent_arrives(agent: Agent, greeted: Robot) -> None:
    assert agent.link.send({"type": "step", "id": "stop-1.1", "step": "stop_motion"})
    assert (await greeted.hear())["id"] == "stop-1.1"


async def test_without_a_robot_what_is_sent_goes_nowhere(agent: Agent, robot: Robot) -> None:
    assert not agent.link.send({"type": "state"})
    robot.say("hello", name="r", beat_ms=20)
    assert (await robot.hear())["type"] == "welcome"


# ---- what is said wrongly: counted, and nothing else

BAD_BYTES = {
    "not UTF-8": b"\xff\xfe",
    "not JSON": b"{",
    "a list": b"[1]",
    "no type": b"{}",
    "a type that is no text": b'{"type": 1}',
    "NaN": b'{"type": "beat", "n": 1, "telemetry": {"x": NaN}}',
    "infinity by overflow": b'{"type": "beat", "n": 1, "telemetry": {"x": 1e999}}',
    "a number of many digits": b'{"type": "beat", "n": ' + b"9" * 400 + b"}",
    "nested deeply": b'{"type": "beat", "n": 1, "telemetry": ' + b"[" * 2000 + b"]" * 2000 + b"}",
    "too long": b'{"type": "beat", "n": 1, "x": "' + b"x" * MAX_ROBOT_PACKET + b'"}',
    "half a surrogate pair": b'{"type": "event", "kind": "\\ud800"}',
}


@pytest.mark.parametrize("packet", BAD_BYTES.values(), ids=BAD_BYTES)
async def test_bytes_that_are_no_packet(agent: Agent, greeted: Robot, packet: bytes) -> None:
    greeted.send(packet)
    await heard(agent, greeted)
    assert (agent.told, len(agent.bad)) == ([], 1)


BAD_FIELDS: dict[str, tuple[str, dict[str, object]]] = {
    "unknown type": ("stop", {}),
    "an agent's type": ("welcome", WELCOME),
    "beat without n": ("beat", {}),
    "beat, n is text": ("beat", {"n": "1"}),
    "beat, n is a boolean": ("beat", {"n": True}),
    "beat, n is no whole number": ("beat", {"n": 1.5}),
    "beat, telemetry is a list": ("beat", {"n": 1, "telemetry": [1]}),
    "beat, telemetry is null": ("beat", {"n": 1, "telemetry": None}),
    "authorise without task": ("authorise", {"id": 1}),
    "authorise without id": ("authorise", {"task": "guide"}),
    "authorise, id is a list": ("authorise", {"id": [], "task": "guide"}),
    "authorise, task too long": ("authorise", {"id": 1, "task": "t" * 65}),
    "authorise, task is a number": ("authorise", {"id": 1, "task": 3}),
    "event without kind": ("event", {"detail": "x"}),
    "event, kind too long": ("event", {"kind": "k" * 65}),
    "event, kind is null": ("event", {"kind": None}),
    "event, detail is an object": ("event", {"kind": "k", "detail": {}}),
    "step_result without id": ("step_result", {"ok": True}),
    "step_result, ok is a number": ("step_result", {"id": "x", "ok": 1}),
    "step_result without ok": ("step_result", {"id": "x"}),
}


@pytest.mark.parametrize(("kind", "fields"), BAD_FIELDS.values(), ids=BAD_FIELDS)
async def test_packets_whose_fields_are_wrong(
    agent: Agent, greeted: Robot, kind: str, fields: dict[str, object]
) -> None:
    agent.now_ns = 5000
    greeted.say(kind, **fields)
    await heard(agent, greeted)
    assert (agent.told, len(agent.bad)) == ([], 1)
    assert kind in agent.bad[0]
    assert agent.link.last_beat_ns == 1000
    assert agent.link.telemetry == {}


@pytest.mark.parametrize("name", [None, 7, "n" * 65, ["福小安"]])
async def test_a_hello_without_a_usable_name_is_none(agent: Agent, robot: Robot, name: object) -> None:
    robot.say("hello", name=name, beat_ms=20)
    await wait_until(lambda: agent.bad)
    robot.say("beat", n=1)
    await wait_until(lambda: len(agent.bad) == 2)
    assert agent.bad[1] == "beat before hello"
    assert (agent.told, agent.link.since_ns) == ([], 0)


@pytest.mark.parametrize("kind", ["beat", "authorise", "event", "step_result"])
async def test_before_hello_nothing_counts(agent: Agent, robot: Robot, kind: str) -> None:
    fields = {"n": 1, "id": "x", "task": "guide", "kind": "unlawful_content", "ok": True}
    robot.say(kind, **fields)
    await wait_until(lambda: agent.bad)
    assert agent.bad == [f"{kind} before hello"]
    assert agent.told == []


async def test_a_name_is_not_taken_for_text_to_be_shown_whole(agent: Agent, greeted: Robot) -> None:
    """What is written down of an unknown type is short and printable."""
    greeted.say("\n" * 3000)
    await heard(agent, greeted)
    (reason,) = agent.bad
    assert len(reason) < 200
    assert reason.isprintable()


# ---- the bounds of telemetry


async def test_a_value_that_is_none_of_the_three_takes_the_old_one_with_it(
    agent: Agent, greeted: Robot
) -> None:
    """Not knowing must not look like the value of before; the beat itself counts."""
    for value in (None, [1], {"x": 1}, "t" * 201):
        greeted.say("beat", n=1, telemetry={"speed_mps": 0.5, "x_m": 1})
        greeted.say("beat", n=2, telemetry={"speed_mps": value, "x_m": 2})
        await heard(agent, greeted)
        assert agent.telemetry() == {"x_m": 2}
    assert len(agent.bad) == 4
    assert [what[0] for what in agent.told] == ["beat"] * 8


async def test_no_more_than_so_many_keys_are_kept_and_the_known_ones_go_on(
    agent: Agent, greeted: Robot
) -> None:
    for start in range(0, 2 * MAX_KEYS, 16):
        greeted.say("beat", n=start, telemetry={f"key{i}": i for i in range(start, start + 16)})
    greeted.say("beat", n=0, telemetry={"key0": "new", "one_more": 1})
    await heard(agent, greeted)
    assert len(agent.link.telemetry) == MAX_KEYS
    assert agent.telemetry()["key0"] == "new"
    assert "one_more" not in agent.link.telemetry
    assert len(agent.bad) == MAX_KEYS // 16 + 1


async def test_the_longest_text_and_the_largest_number_are_kept(agent: Agent, greeted: Robot) -> None:
    sent = {"task": "t" * 200, "big": 2**63, "small": -1e308}
    greeted.say("beat", n=1, telemetry=sent)
    await heard(agent, greeted)
    assert agent.telemetry() == sent


# ---- who may come in, and the end


async def test_a_second_robot_is_refused_and_the_first_goes_on(agent: Agent, greeted: Robot) -> None:
    second = Robot(agent.path)
    second.say("hello", name="second", beat_ms=20)
    assert await second.hear() == {}
    assert agent.bad == ["hello: a robot is connected already"]
    greeted.say("beat", n=1)
    await heard(agent, greeted)
    assert agent.told == [("beat", 1000)]
    assert agent.link.name == "福小安"
    second.sock.close()


async def test_a_strangers_end_is_not_the_robots(agent: Agent, greeted: Robot) -> None:
    second = Robot(agent.path)
    second.say("beat", n=1)
    await wait_until(lambda: agent.bad)
    second.sock.close()
    greeted.say("beat", n=1)
    await heard(agent, greeted)
    assert agent.told == [("beat", 1000)]
    assert agent.link.since_ns == 1000


async def test_the_end_is_told_and_takes_what_the_robot_said_with_it(agent: Agent, greeted: Robot) -> None:
    greeted.say("beat", n=1, telemetry={"still": True})
    await heard(agent, greeted)
    agent.told.clear()
    greeted.sock.close()
    await wait_until(lambda: agent.told)
    assert agent.told == [("gone",)]
    assert (agent.link.since_ns, agent.link.telemetry) == (0, {})


async def test_an_end_with_our_words_unread_is_an_end_all_the_same(agent: Agent, greeted: Robot) -> None:
    agent.link.send({"type": "state"})
    greeted.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    greeted.sock.close()
    await wait_until(lambda: agent.told)
    assert agent.told == [("gone",)]


async def test_a_robot_that_comes_back_starts_afresh(agent: Agent, greeted: Robot) -> None:
    greeted.say("beat", n=1, telemetry={"still": True})
    await heard(agent, greeted)
    greeted.sock.close()
    await wait_until(lambda: ("gone",) in agent.told)
    agent.now_ns = 8000
    again = Robot(agent.path)
    again.say("hello", name="after", beat_ms=20)
    assert (await again.hear())["type"] == "welcome"
    assert (agent.link.name, agent.link.since_ns, agent.link.telemetry) == ("after", 8000, {})
    again.sock.close()


async def test_saying_hello_again_forgets_what_was_told_before(agent: Agent, greeted: Robot) -> None:
    """The robot's software started anew on the same connection: its old standstill is worth nothing."""
    greeted.say("beat", n=1, telemetry={"still": True})
    greeted.say("hello", name="again", beat_ms=20)
    assert (await greeted.hear())["type"] == "welcome"
    assert (agent.link.name, agent.link.telemetry) == ("again", {})
    assert agent.bad == []


async def test_a_uid_that_the_plan_does_not_name_is_not_let_in(run_dir: Path) -> None:
    agent = Agent(run_dir / "robot.sock", OTHER_UID)
    stranger = Robot(agent.path)
    assert await stranger.hear() == {}
    assert len(agent.bad) == 1
    assert "is not allowed" in agent.bad[0]
    assert agent.told == []
    stranger.sock.close()
    agent.link.close()


async def test_closing_ends_the_connection_and_may_come_twice(agent: Agent, greeted: Robot) -> None:
    agent.link.close()
    agent.link.close()
    assert await greeted.hear() == {}
    assert not agent.path.exists()
    agent.link.send({"type": "state"})
