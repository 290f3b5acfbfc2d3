"""What people are told: signed by the robot, complete, and no more often than it changes."""

import base64
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.channel import Channel
from agent.core.causes import MS
from agent.core.commands import Code
from agent.core.machine import Demand, Outcome
from agent.core.peer import UNHEARD, PeerView
from agent.core.responses import Response
from agent.dialogue import Entry
from agent.mqtt import SLOW_ROUND_TRIP_S, Outgoing
from agent.peer_link import channel_state, read_causes, read_state
from agent.publisher import STATE_NS, Publisher
from tests.channel_lives import run
from tests.channels import Life, disks
from tests.core.factories import NOW_NS, small_plan
from tests.published import TOPIC, Line, read


@dataclass
class Whole:
    """The whole robot as `remote` sees it."""

    channel: Channel
    peer: PeerView = UNHEARD
    peer_causes: list[dict[str, object]] = field(default_factory=list)
    log_head: dict[str, object] | None = None


@dataclass
class Scene:
    line: Line
    key: Ed25519PrivateKey
    publisher: Publisher
    remote: Life
    reflex: Life
    robot: Whole

    def hear_reflex(self) -> None:
        message = json.loads(json.dumps(channel_state(self.reflex.channel, still=False, now_ns=NOW_NS)))
        self.robot.peer, self.robot.peer_causes = read_state(message, NOW_NS), read_causes(message)

    def state(self, now_ns: int = NOW_NS) -> dict[str, Any]:
        return self.publisher.state(self.robot, now_ns)

    def read(self, packet: Outgoing, typ: str, audience: str = "*") -> dict[str, Any]:
        return read(packet, self.key.public_key(), typ, audience)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Both channels run; reflex was heard."""
    line, key = Line(), Ed25519PrivateKey.generate()
    with disks():
        remote = run(Life("remote", small_plan(), tmp_path))
        reflex = run(Life("reflex", small_plan(), tmp_path))
        one = Scene(line, key, Publisher(small_plan(), line, key), remote, reflex, Whole(remote.channel))
        one.hear_reflex()
        yield one
        remote.channel.close()
        reflex.channel.close()


# ---- when the state is told


def test_the_state_is_told_at_once_on_change_and_every_ten_seconds(scene: Scene) -> None:
    tick = scene.publisher.tick
    for now_ns in (NOW_NS, NOW_NS + 1, NOW_NS + STATE_NS - 1, NOW_NS + STATE_NS, NOW_NS + STATE_NS + 1):
        tick(now_ns, scene.robot)
    assert [packet.topic for packet in scene.line.sent] == [f"{TOPIC}/state"] * 2
    scene.publisher.changed()
    tick(NOW_NS + STATE_NS + 2, scene.robot)
    tick(NOW_NS + STATE_NS + 3, scene.robot)
    assert len(scene.line.sent) == 3
    assert {(packet.qos, packet.retain) for packet in scene.line.sent} == {(1, True)}


def test_the_state_says_how_far_the_ledger_goes(scene: Scene) -> None:
    assert scene.state()["log"] == {"head": None}
    scene.robot.log_head = {"n": 7, "hash": "ab" * 32}
    assert scene.state()["log"] == {"head": {"n": 7, "hash": "ab" * 32}}


def test_while_there_is_no_link_nothing_is_told_and_the_change_waits_for_it(scene: Scene) -> None:
    scene.line.connected = False
    scene.publisher.tick(NOW_NS, scene.robot)
    scene.publisher.event(scene.robot, Outcome())
    scene.publisher.telemetry({"x_m": 1})
    scene.publisher.farewell()
    assert scene.line.sent == []
    scene.line.connected = True
    scene.publisher.tick(NOW_NS + 1, scene.robot)
    assert len(scene.line.sent) == 1


def test_right_after_connecting_link_and_state_are_told(scene: Scene) -> None:
    scene.publisher.tick(NOW_NS, scene.robot)
    scene.line.sent.clear()
    scene.publisher.greet(scene.robot)
    link, state = scene.line.sent
    assert link == Outgoing(f"{TOPIC}/link", b'{"online": true}', 1, retain=True)
    assert (state.topic, state.retain) == (f"{TOPIC}/state", True)


def test_an_ordered_end_says_what_the_will_would(scene: Scene) -> None:
    scene.publisher.farewell()
    assert scene.line.sent == [Outgoing(f"{TOPIC}/link", b'{"online": false}', 1, retain=True)]


# ---- what the state says


def test_the_state_has_every_field_of_protocol_3_and_is_signed_by_the_robot(scene: Scene) -> None:
    before_s = int(time.time())
    scene.publisher.tick(NOW_NS, scene.robot)
    claims = scene.read(scene.line.sent[0], "warden-state+jwt")
    assert claims.keys() == {
        *("iss", "aud", "iat", "jti"),
        *("robot_id", "name", "kind", "risk", "seq", "response", "epoch", "challenge", "causes", "blockers"),
        *("channels", "link", "present", "maintenance", "agent", "log", "time"),
    }
    assert (claims["iss"], claims["aud"], claims["robot_id"]) == ("FT-1", "*", "FT-1")
    assert (claims["name"], claims["kind"], claims["risk"]) == ("福小安", "embodied", "high")
    assert min(claims["iat"], claims["time"]) >= before_s
    assert claims["agent"] == {"version": "1.0.0", "digest": "a" * 64}
    assert (claims["response"], claims["causes"], claims["blockers"]) == ("none", [], [])
    assert claims["maintenance"] is False


def test_each_state_has_the_next_number_and_its_own_jti(scene: Scene) -> None:
    for number in range(3):
        scene.publisher.changed()
        scene.publisher.tick(NOW_NS + number, scene.robot)
    states = [scene.read(packet, "warden-state+jwt") for packet in scene.line.sent]
    assert [state["seq"] for state in states] == [1, 2, 3]
    assert len({state["jti"] for state in states}) == 3


def challenge(state: Mapping[str, Any]) -> bytes:
    text = str(state["challenge"])
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_epoch_and_challenge_are_of_the_robot_as_a_whole(scene: Scene) -> None:
    scene.reflex.turn(NOW_NS, guardian_stop=Demand())
    scene.hear_reflex()
    state = scene.state()
    assert state["epoch"] == scene.reflex.read().epoch + scene.remote.read().epoch == 3
    assert challenge(state) == scene.reflex.channel.state.half + scene.remote.channel.state.half


def test_before_reflex_was_heard_the_challenge_fits_nothing_and_has_its_length(scene: Scene) -> None:
    scene.robot.peer = UNHEARD
    assert challenge(scene.state()) == bytes(8) + scene.remote.channel.state.half


@pytest.mark.parametrize(
    ("reflex", "remote", "worst"),
    [
        ("guardian_hold", "guardian_stop", "emergency_stop"),
        ("guardian_stop", "guardian_hold", "emergency_stop"),
        ("guardian_hold", "clock_jump", "hold"),
    ],
)
def test_the_response_is_the_worse_of_the_two(scene: Scene, reflex: str, remote: str, worst: str) -> None:
    scene.reflex.turn(NOW_NS, **{reflex: Demand()})
    scene.remote.turn(NOW_NS, **{remote: Demand()})
    scene.hear_reflex()
    state = scene.state()
    assert state["response"] == worst
    assert {cause["id"] for cause in state["causes"]} == {reflex, remote}


def test_causes_of_both_channels_oldest_first_with_two_languages(scene: Scene) -> None:
    scene.remote.turn(NOW_NS, guardian_stop=Demand())
    scene.reflex.turn(NOW_NS + 50 * MS, **{"input_stale:estop": Demand()})
    scene.hear_reflex()
    stop, stale = scene.state()["causes"]
    assert [stop["id"], stale["id"]] == ["guardian_stop", "input_stale"]
    assert [stop["channel"], stale["channel"]] == ["remote", "reflex"]
    assert stop["text"] == {"zh": "监护人下令停机", "en": "Stopped by a guardian"}
    assert {"id", "response", "active", "clear", "since", "text"} <= stop.keys()


def test_what_a_lost_reflex_said_of_its_causes_is_not_repeated(scene: Scene) -> None:
    scene.reflex.turn(NOW_NS, guardian_stop=Demand())
    scene.hear_reflex()
    scene.robot.peer = scene.robot.peer.lost()
    state = scene.state()
    assert state["causes"] == []
    assert state["response"] == "emergency_stop"
    assert state["channels"]["reflex"] == {"response": "emergency_stop", "motion": False, "alive": False}
    assert state["channels"]["remote"] == {"response": "none", "motion": True, "alive": True}


def test_a_channel_that_runs_moves_only_while_it_is_there(scene: Scene) -> None:
    assert scene.state()["channels"]["reflex"] == {"response": "none", "motion": True, "alive": True}
    scene.robot.peer = scene.robot.peer.lost()
    assert scene.state()["channels"]["reflex"] == {"response": "none", "motion": False, "alive": False}


def test_causes_of_a_hostile_reflex_do_not_keep_the_state_from_being_told(scene: Scene) -> None:
    scene.remote.turn(NOW_NS, guardian_stop=Demand())
    scene.robot.peer_causes = [{}, {"since": "yesterday"}, {"since": None, "id": 7}]
    assert len(scene.state()["causes"]) == 4


def test_blockers_of_both_channels_each_once(scene: Scene) -> None:
    scene.remote.turn(NOW_NS, guardian_stop=Demand())
    scene.reflex.turn(NOW_NS, guardian_stop=Demand(), suspended=Demand())
    scene.hear_reflex()
    assert scene.state()["blockers"] == ["cause_active", "reevaluation_needed"]


def test_maintenance_is_said(scene: Scene) -> None:
    scene.remote.channel.stand("maintenance", "电机", NOW_NS)
    assert scene.state()["maintenance"] is True


@pytest.mark.parametrize(
    ("trip_s", "slow"),
    [(SLOW_ROUND_TRIP_S, False), (SLOW_ROUND_TRIP_S * 1.01, True), (float("inf"), False), (0.001, False)],
)
def test_a_broker_with_nagles_algorithm_is_said_once_it_was_measured(
    scene: Scene, trip_s: float, slow: bool
) -> None:
    scene.line.round_trip_s = trip_s
    assert scene.state()["link"] == {"online": True, "slow": slow}


# ---- replies, events, telemetry


def test_a_reply_names_the_command_the_stage_and_the_time(scene: Scene) -> None:
    entry = Entry("guardian-li", "j-7", "stop", 0)
    token = scene.publisher.reply(entry, "accepted", None, 1234)
    (packet,) = scene.line.sent
    assert (packet.topic, packet.payload) == (f"{TOPIC}/reply/guardian-li", token.encode())
    assert (packet.qos, packet.retain) == (1, False)
    claims = scene.read(packet, "warden-reply+jwt", "guardian-li")
    assert {key: claims[key] for key in ("re", "stage", "after_us")} == {
        "re": "j-7",
        "stage": "accepted",
        "after_us": 1234,
    }
    assert "reason" not in claims


def test_a_refusal_has_its_reason(scene: Scene) -> None:
    scene.publisher.reply(Entry("guardian-li", "j-7", "stop", 0), "refused", Code.WRONG_EPOCH, 1)
    assert scene.read(scene.line.sent[0], "warden-reply+jwt", "guardian-li")["reason"] == "wrong_epoch"


def test_a_repeated_answer_is_the_same_to_the_byte(scene: Scene) -> None:
    token = scene.publisher.reply(Entry("guardian-li", "j-7", "stop", 0), "accepted", None, 1)
    scene.publisher.repeat("guardian-li", token)
    first, again = scene.line.sent
    assert first == again


def test_an_event_says_what_happened(scene: Scene) -> None:
    outcome = scene.remote.turn(NOW_NS, guardian_hold=Demand(Response.HOLD))
    scene.publisher.event(scene.robot, outcome)
    scene.publisher.event(scene.robot, Outcome(cleared=("guardian_hold",)))
    stop, change = (scene.read(packet, "warden-event+jwt") for packet in scene.line.sent)
    assert {packet.topic for packet in scene.line.sent} == {f"{TOPIC}/event"}
    assert not scene.line.sent[0].retain
    assert (stop["kind"], stop["channel"], stop["response"]) == ("stop", "remote", "hold")
    assert (stop["raised"], stop["gone"], stop["cleared"]) == (["guardian_hold"], [], [])
    assert stop["epoch"] == scene.state()["epoch"]
    assert (change["kind"], change["cleared"]) == ("change", ["guardian_hold"])


def test_telemetry_is_plain_and_not_queued(scene: Scene) -> None:
    scene.publisher.telemetry({"speed_mps": 0.5, "task": "guide"})
    (packet,) = scene.line.sent
    assert (packet.topic, packet.qos, packet.retain) == (f"{TOPIC}/telemetry", 0, False)
    told = json.loads(packet.payload)
    assert isinstance(told.pop("time"), float)
    assert told == {"speed_mps": 0.5, "task": "guide"}


def test_telemetry_that_comes_too_often_or_is_none_is_left_out(scene: Scene) -> None:
    for data in (None, [1], "x", {"n": 1}, {"n": 2}, {"n": 3}):
        scene.publisher.telemetry(data)
    assert [json.loads(packet.payload)["n"] for packet in scene.line.sent] == [1]
