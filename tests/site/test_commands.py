"""Commands over a real broker: what is taken, what is refused and how, what gets no answer (PROTOCOL 3).

The client is paho's own and signs with PyJWT: nothing of `console` stands between the test and the wire.
"""

import json
import queue
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import paho.mqtt.client as paho
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.enums import CallbackAPIVersion

from hil.pki import load_signing_key
from tests.site.conftest import Scene
from tests.waiting import block_until

ROBOT = "FT-2024-0017"
PREFIX = f"warden/v1/{ROBOT}"


class Wire:
    """One person's raw MQTT client."""

    def __init__(self, scene: Scene, kid: str) -> None:
        self.kid = kid
        self.scene = scene
        self.key = load_signing_key(scene.site.pki.person(kid).signing_key)
        self.robot_key = load_signing_key(scene.site.pki.robot.signing_key).public_key()
        self.heard: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self.client.tls_set_context(scene.site.pki.client_tls(scene.site.pki.person(kid)))
        self.client.on_message = lambda _c, _u, m: self.heard.put((m.topic, bytes(m.payload)))
        subscribed = queue.Queue[bool]()
        self.client.on_subscribe = lambda *_: subscribed.put(True)
        self.client.connect("localhost", scene.site.broker.port)
        self.client.loop_start()
        for topic in (
            f"{PREFIX}/reply/{kid}",
            f"{PREFIX}/event",
            f"{PREFIX}/state",
            f"{PREFIX}/link",
            f"{PREFIX}/telemetry",
        ):
            self.client.subscribe(topic, qos=1)
            subscribed.get(timeout=20)

    def claims(self, cmd: str, args: object = None, **changes: object) -> dict[str, object]:
        now = int(time.time())
        head = {"iss": self.kid, "aud": ROBOT, "iat": now, "exp": now + 60, "jti": uuid.uuid4().hex}
        return {**head, "cmd": cmd, "args": args or {}, **changes}

    def sign(self, claims: dict[str, object], key: Ed25519PrivateKey | None = None, **header: str) -> bytes:
        headers = {"kid": self.kid, "typ": "warden-cmd+jwt", **header}
        return jwt.encode(claims, key or self.key, algorithm="EdDSA", headers=headers).encode()

    def send(self, token: bytes, topic: str = f"{PREFIX}/cmd") -> None:
        self.client.publish(topic, token, qos=1).wait_for_publish(20)

    def tell(self, cmd: str, args: object = None, **changes: object) -> str:
        claims = self.claims(cmd, args, **changes)
        self.send(self.sign(claims))
        return str(claims["jti"])

    def hear(self, tail: str, fits: Callable[[dict[str, Any]], bool] = bool) -> dict[str, Any]:
        """The next message of a topic that fits, its signature verified where it has one."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            topic, payload = self.heard.get(timeout=20)
            if not topic.startswith(f"{PREFIX}/{tail}"):
                continue
            message = self.read(tail, payload)
            if fits(message):
                return message
        raise AssertionError(f"no such {tail}")

    def read(self, tail: str, payload: bytes) -> dict[str, Any]:
        if tail in ("link", "telemetry"):
            return dict(json.loads(payload))
        audience = self.kid if tail == "reply" else "*"
        assert jwt.get_unverified_header(payload)["typ"] == f"warden-{tail}+jwt"
        return jwt.decode(payload, self.robot_key, algorithms=["EdDSA"], audience=audience, issuer=ROBOT)

    def answer(self, jti: str) -> dict[str, Any]:
        return self.hear("reply", lambda reply: reply["re"] == jti)

    def state(self) -> dict[str, Any]:
        """The newest state: the one that has heard of everything up to now."""
        self.tell("ping")
        newest = self.scene.guardian.state()
        return {"epoch": newest.epoch, "challenge": newest.challenge}

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def wire(scene: Scene) -> Iterator[Wire]:
    one = Wire(scene, "guardian-wang")
    yield one
    one.close()


@pytest.fixture
def department(scene: Scene) -> Iterator[Wire]:
    one = Wire(scene, "department-chen")
    yield one
    one.close()


def test_ping_is_answered(wire: Wire) -> None:
    reply = wire.answer(wire.tell("ping"))
    assert reply["stage"] == "accepted"
    assert reply["after_us"] >= 0


@pytest.mark.parametrize("response", ["hold", "safe_mode", "emergency_stop"])
def test_a_stop_of_each_strength_is_told_in_stages(scene: Scene, wire: Wire, response: str) -> None:
    scene.run()
    jti = wire.tell("stop", {"response": response, "reason": "测试"})
    replies = [wire.answer(jti) for _ in range(3)]
    assert [reply["stage"] for reply in replies] == ["accepted", "actuated", "verified"]
    assert not scene.moving()
    assert scene.response("remote").label == response
    assert scene.response("reflex").label == response
    powered = response == "hold"
    if response != "safe_mode":
        block_until(lambda: scene.relay("b") is powered and scene.relay("a") is powered)
    scene.stays_stopped()


def test_a_stop_to_a_group_and_to_all(scene: Scene, wire: Wire) -> None:
    for group in ("hall", "all"):
        scene.run()
        claims = wire.claims("stop", aud=f"group:{group}")
        wire.send(wire.sign(claims), f"warden/v1/group/{group}/cmd")
        assert wire.answer(str(claims["jti"]))["stage"] == "accepted"
        block_until(lambda: not scene.moving())


def test_a_repeated_command_gets_the_first_answer_and_does_nothing(scene: Scene, wire: Wire) -> None:
    scene.run()
    claims = wire.claims("stop", {"response": "hold"})
    token = wire.sign(claims)
    wire.send(token)
    first = wire.answer(str(claims["jti"]))
    wire.hear("reply", lambda reply: reply["stage"] == "verified")
    scene.run()
    epoch = scene.epoch()
    wire.send(token)
    again = wire.answer(str(claims["jti"]))
    assert again == first
    assert scene.moving()
    assert scene.epoch() == epoch


def refused(wire: Wire, cmd: str, args: object = None, **changes: object) -> str:
    reply = wire.answer(wire.tell(cmd, args, **changes))
    assert reply["stage"] == "refused"
    return str(reply["reason"])


def test_refusals_name_their_code(scene: Scene, wire: Wire, department: Wire) -> None:
    scene.run()
    now = int(time.time())
    fresh = {"epoch": 1, "challenge": "AAAAAAAAAAAAAAAAAAAAAA", "reason": ""}
    assert refused(wire, "dance") == "malformed"
    assert refused(wire, "stop", aud="another-robot") == "wrong_audience"
    assert refused(wire, "stop", iat=now - 600, exp=now - 500) == "expired"
    assert refused(wire, "stop", iat=now + 500, exp=now + 600) == "not_yet_valid"
    assert refused(wire, "ping", iat=now, exp=now + 121) == "malformed"
    assert refused(wire, "resume", fresh) == "not_stopped"
    assert refused(wire, "resume", {"epoch": "x"}) == "malformed"
    assert refused(wire, "suspend", {"reason": "no"}) == "not_entitled"
    assert refused(department, "resume", fresh) == "not_entitled"
    assert scene.moving()
    wire.tell("stop")
    block_until(lambda: not scene.moving())
    block_until(lambda: not scene.blockers())
    state = wire.state()
    assert refused(wire, "resume", {**state, "epoch": state["epoch"] - 1}) == "wrong_epoch"
    assert (
        refused(wire, "resume", {**wire.state(), "challenge": "AAAAAAAAAAAAAAAAAAAAAA"}) == "stale_challenge"
    )
    old = wire.state()
    assert refused(wire, "resume", {**old, "epoch": 0}) == "wrong_epoch"
    # The refusal before has made this one stale.
    assert refused(wire, "resume", old) == "stale_challenge"
    scene.stays_stopped()


def test_what_fails_before_its_signature_gets_no_reply_and_starts_nothing(scene: Scene, wire: Wire) -> None:
    scene.run()
    wire.tell("stop")
    block_until(lambda: not scene.moving())
    before = counted(scene, "warden_bad_input_total", 'source="mqtt"')
    stranger = Ed25519PrivateKey.generate()
    claims = wire.claims("resume", {**wire.state(), "reason": ""})
    bad = [
        b"",
        b"\xff\xfe not utf-8",
        b"x" * 65_000,
        b"e30.e30.e30",
        wire.sign(claims)[:-4],
        wire.sign(claims, stranger),
        wire.sign(claims, kid="nobody"),
        wire.sign(claims, typ="warden-state+jwt"),
        wire.sign(claims, load_signing_key(scene.site.pki.robot.signing_key), kid=ROBOT),
        jwt.encode(
            claims, "secret" * 8, algorithm="HS256", headers={"kid": wire.kid, "typ": "warden-cmd+jwt"}
        ).encode(),
        jwt.encode(claims, "", algorithm="none", headers={"kid": wire.kid, "typ": "warden-cmd+jwt"}).encode(),
    ]
    for token in bad:
        wire.send(token)
    jti = wire.tell("ping")
    # Everything before the ping's answer has been judged by then, and not one of it was answered.
    replies: list[dict[str, Any]] = []
    while not replies or replies[-1]["re"] != jti:
        replies.append(wire.hear("reply"))
    assert claims["jti"] not in {reply["re"] for reply in replies}
    block_until(lambda: counted(scene, "warden_bad_input_total", 'source="mqtt"') == before + len(bad))
    scene.stays_stopped()


def counted(scene: Scene, name: str, label: str) -> float:
    with urllib.request.urlopen(f"http://{scene.site.metrics_address()}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name + "{") and label in line)


def test_suspend_needs_the_department_and_a_reevaluation(scene: Scene, wire: Wire, department: Wire) -> None:
    scene.run()
    jti = department.tell("suspend", {"reason": "检修"})
    assert department.answer(jti)["stage"] == "accepted"
    block_until(lambda: not scene.moving())
    assert scene.response("reflex").label == "suspend"
    assert scene.response("remote").label == "suspend"
    resumed = scene.guardian.resume(retries=5)[-1]
    assert (resumed.stage, resumed.reason) == ("refused", "reevaluation_needed")
    block_until(lambda: "suspended" in scene.causes("reflex"))
    args = {**department.state(), "evaluation": "合格"}
    assert department.answer(department.tell("reinstate", args))["stage"] == "accepted"
    for module in ("reflex", "remote"):
        block_until(lambda: scene.causes(module)["suspended"]["clear"] == "resume")  # noqa: B023
    scene.stays_stopped()
    scene.run()


def test_maintenance_holds_the_robot_until_it_ends(scene: Scene) -> None:
    scene.run()
    scene.guardian.stop()
    maintainer = Wire(scene, "maintainer-he")
    try:
        assert (
            maintainer.answer(maintainer.tell("maintenance", {"begin": True, "note": "电机"}))["stage"]
            == "accepted"
        )
        resumed = scene.guardian.resume(retries=5)[-1]
        assert (resumed.stage, resumed.reason) == ("refused", "in_maintenance")
        assert (
            maintainer.answer(maintainer.tell("maintenance", {"begin": False, "note": "好"}))["stage"]
            == "accepted"
        )
    finally:
        maintainer.close()
    scene.stays_stopped()
    scene.run()


def test_state_event_link_and_telemetry_are_published(scene: Scene, wire: Wire) -> None:
    scene.run()
    assert wire.hear("link") == {"online": True}
    wire.tell("stop", {"response": "hold", "reason": "看"})
    event = wire.hear("event", lambda e: e["kind"] == "stop")
    assert "guardian_hold" in event["raised"]
    state = wire.hear("state", lambda s: s["response"] == "hold")
    required = {
        *("robot_id", "name", "kind", "risk", "seq", "response", "epoch", "challenge", "causes", "blockers"),
        *("channels", "link", "present", "maintenance", "agent", "log", "time"),
    }
    assert required <= state.keys()
    cause = next(c for c in state["causes"] if c["id"] == "guardian_hold")
    assert {"id", "response", "active", "clear", "since", "text"} <= cause.keys()
    assert cause["text"]["zh"]
    assert cause["text"]["en"]
    assert {"response", "motion", "alive"} <= state["channels"]["reflex"].keys()
    assert "speed_mps" in wire.hear("telemetry")


def test_the_last_will_says_that_remote_is_gone(scene: Scene, wire: Wire) -> None:
    scene.run()
    scene.kill("remote")
    assert wire.hear("link", lambda link: not link["online"]) == {"online": False}
    assert wire.hear("link", lambda link: link["online"]) == {"online": True}


def test_a_dead_broker_is_a_stop_after_link_lost_s_and_its_return_starts_nothing(scene: Scene) -> None:
    scene.run()
    scene.site.broker.kill()
    block_until(lambda: "link_lost" in scene.causes("remote"))
    block_until(lambda: not scene.moving())
    scene.site.broker.restart()
    block_until(lambda: scene.site.ask("remote")["mqtt"]["connected"])
    scene.stays_stopped()
    scene.run()


def test_retire_is_final(scene: Scene, department: Wire) -> None:
    """The last test of this site: nothing runs on it any more."""
    scene.run()
    args = {"challenge": department.state()["challenge"], "reason": "报废"}
    assert department.answer(department.tell("retire", args))["stage"] == "accepted"
    block_until(lambda: not scene.moving())
    resumed = scene.guardian.resume(retries=2)[-1]
    assert (resumed.stage, resumed.reason) == ("refused", "retired")
    for module in ("reflex", "remote"):
        pid = scene.site.pid(module)
        scene.kill(module)
        block_until(lambda: (answer := scene.site.ask(module)) and answer["module"]["pid"] != pid)  # noqa: B023
    assert scene.response("reflex").label == "retire"
    assert scene.response("remote").label == "retire"
    scene.stays_stopped()
