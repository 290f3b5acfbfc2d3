"""Robots as the broker shows them: scripted, signing what they say, to test the guardian's side with."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent.tokens import (
    COMMAND,
    EVENT,
    REPLY,
    STATE,
    load_private_key,
    new_jti,
    public_jwk,
    raw_public_key,
    sign,
    verify,
)
from console.link import NO_DELAY
from console.profile import Profile, load_profile
from hil.broker import Broker
from hil.pki import ROOT_KID, Pki, make_trust

GUARDIAN = "guardian-li"
ROBOTS = ("R1", "R2")
GROUPS = {"hall": ["R1", "R2"], "lobby": ["R1"], "empty": []}
CHALLENGE = "AAECAwQFBgcICQoLDA0ODw"


@dataclass(frozen=True)
class Site:
    """A broker, its people, and two robots of the trust file: both in `hall`, R1 alone in `lobby`."""

    broker: Broker
    pki: Pki
    robot_keys: dict[str, Ed25519PrivateKey]

    @classmethod
    def create(cls, folder: Path) -> "Site":
        """The broker is not started yet."""
        pki = Pki.create(folder / "pki")
        keys = {robot_id: Ed25519PrivateKey.generate() for robot_id in ROBOTS}
        site = cls(Broker("mosquitto", folder / "broker", pki), pki, keys)
        for robot_id in ROBOTS:
            certificate, private = pki.authority.issue(robot_id)
            pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            site.robot_pem(robot_id).write_bytes(certificate.public_bytes(Encoding.PEM) + pem)
        site.sign_trust()
        return site

    def robot_pem(self, robot_id: str) -> Path:
        """Certificate and key of one robot's MQTT client."""
        return self.pki.folder / f"{robot_id}.pem"

    def sign_trust(self) -> None:
        """Writes the trust file."""
        people = [person.row(public_jwk(person.kid, self._raw(person.kid))) for person in self.pki.people]
        robots = [
            {"id": robot_id, "name": "福小安", "key": public_jwk(robot_id, raw_public_key(key))}
            for robot_id, key in self.robot_keys.items()
        ]
        root = load_private_key(self.pki.root_key)
        self.pki.trust.write_text(make_trust(root, ROOT_KID, people, robots, GROUPS, 1), "utf-8")

    def settings(self, kid: str = GUARDIAN) -> dict[str, Any]:
        """A person's profile, as TOML values."""
        files = self.pki.person(kid)
        return {
            "kid": kid,
            "signing_key": str(files.signing_key),
            "broker": self.broker.url,
            "protocol": self.broker.protocol,
            "ca": str(self.pki.ca),
            "cert": str(files.cert),
            "key": str(files.key),
            "trust": str(self.pki.trust),
            "root_keys": [str(self.pki.root_jwk)],
        }

    def profile_file(self, folder: Path, **changes: object) -> Path:
        """A profile with some keys changed (None: left out)."""
        settings = {**self.settings(), **changes}
        # JSON's texts and lists are TOML's too.
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items() if value is not None]
        path = folder / "guardian.toml"
        path.write_text("\n".join(lines), "utf-8")
        return path

    def profile(self, folder: Path, **changes: object) -> Profile:
        """The same, loaded."""
        return load_profile(self.profile_file(folder, **changes), {})

    def _raw(self, kid: str) -> bytes:
        return raw_public_key(load_private_key(self.pki.person(kid).signing_key))

    @contextlib.asynccontextmanager
    async def robot(self, robot_id: str = "R1", script: "Script | None" = None) -> AsyncIterator["FakeRobot"]:
        """A robot that is connected and listens; its retained messages are taken back when it leaves."""
        context = self.pki.client_tls(None)
        context.load_cert_chain(self.robot_pem(robot_id))
        people = {person.kid: self._raw(person.kid) for person in self.pki.people}
        address = "127.0.0.1", self.broker.port
        async with aiomqtt.Client(*address, tls_context=context, socket_options=[NO_DELAY]) as client:
            groups = frozenset({"all", *(name for name, ids in GROUPS.items() if robot_id in ids)})
            key = self.robot_keys[robot_id]
            robot = FakeRobot(robot_id, key, people, client, script or obedient, groups)
            await client.subscribe([(f"warden/v1/{robot_id}/cmd", 1), ("warden/v1/group/+/cmd", 1)])
            task = asyncio.create_task(robot.run(), name=f"fake robot {robot_id}")
            try:
                yield robot
            finally:
                robot.leaves = True
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await robot.publish("state", b"", retain=True)
                await robot.publish("link", b"", retain=True)


@dataclass
class FakeRobot:
    """One robot on the broker. `script`: what it answers a command with; `heard`: the claims of each.

    `leaves`: set before `run` is cancelled. A reply's acknowledgement that comes in the turn of the
    cancellation makes `asyncio.wait_for` of Python 3.11, in which the client waits for it, drop that.
    """

    robot_id: str
    key: Ed25519PrivateKey
    people: dict[str, bytes]
    client: aiomqtt.Client
    script: "Script"
    groups: frozenset[str]
    heard: list[dict[str, Any]] = field(default_factory=list)
    leaves: bool = False

    async def run(self) -> None:
        """Answers until cancelled."""
        async for message in self.client.messages:
            claims = dict(verify(message.payload, typ=COMMAND, key_of=self.people.get).claims)
            self.heard.append(claims)
            if claims["aud"] in {self.robot_id, *(f"group:{group}" for group in self.groups)}:
                for changes in self.script(claims):
                    await self.reply(claims, **changes)
            if self.leaves:
                return

    async def reply(self, command: dict[str, Any], **changes: object) -> None:
        """One reply, with some claims changed."""
        claims = {"aud": command["iss"], "re": command["jti"], "stage": "accepted", "after_us": 400}
        await self.say(f"reply/{command['iss']}", REPLY, {**claims, **changes})

    async def show(self, **changes: object) -> None:
        """The retained state, with some claims changed."""
        claims: dict[str, object] = {
            "robot_id": self.robot_id,
            "name": "福小安",
            "seq": 1,
            "response": "emergency_stop",
            "epoch": 7,
            "challenge": CHALLENGE,
            "causes": [cause("estop_pressed")],
            "blockers": ["cause_active"],
            "channels": {"reflex": {"response": "emergency_stop", "motion": False, "alive": True}},
        }
        await self.say("state", STATE, {**claims, **changes}, retain=True)

    async def tell(self, kind: str, **fields: object) -> None:
        """An event."""
        await self.say("event", EVENT, {"kind": kind, **fields})

    async def say(self, topic: str, typ: str, claims: dict[str, object], *, retain: bool = False) -> None:
        """Any message, signed; `key` and `kid` among the claims take the place of the robot's own."""
        whole = {"iss": self.robot_id, "aud": "*", "iat": time.time(), "jti": new_jti(), **claims}
        key, kid = whole.pop("key", self.key), whole.pop("kid", self.robot_id)
        assert isinstance(key, Ed25519PrivateKey)
        await self.publish(topic, sign(whole, key=key, kid=str(kid), typ=typ), retain=retain)

    async def publish(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        """Anything at all."""
        await self.client.publish(f"warden/v1/{self.robot_id}/{topic}", payload, qos=1, retain=retain)

    async def link(self, *, online: bool) -> None:
        """What the broker keeps about the robot's connection."""
        await self.publish("link", json.dumps({"online": online}), retain=True)


Script = Callable[[dict[str, Any]], Sequence[dict[str, Any]]]


def stages(*names: str) -> Script:
    """A robot that answers every command with these stages."""
    return lambda _: [{"stage": name, "after_us": 400 * number} for number, name in enumerate(names, 1)]


def ends(stage: str, reason: str) -> Script:
    """A robot that refuses (fails) every command."""
    return lambda _: [{"stage": stage, "reason": reason}]


def obedient(claims: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """A robot that does what it is told."""
    whole = {"ping": ("accepted",), "resume": ("accepted", "actuated")}
    return stages(*whole.get(claims["cmd"], ("accepted", "actuated", "verified")))(claims)


def cause(cause_id: str, **changes: object) -> dict[str, object]:
    """A cause as a state lists it."""
    return {
        "id": cause_id,
        "response": "emergency_stop",
        "active": True,
        "clear": "reset_and_resume",
        "since": 1.5,
        "text": {"zh": "急停按钮被按下", "en": "Emergency stop pressed"},
        **changes,
    }
