"""A `remote` in an attacker's hands: it can stop the robot and never start it (DESIGN, principle 3).

The real `reflex` runs, alone. The test plays `remote`: it holds the permit `remote.permit` open for ever,
speaks on the module link as it likes, and knows everything the network knows, but no guardian's key.
"""

import base64
import json
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.permit import PermitWriter
from hil.pki import load_signing_key
from hil.site import Site
from tests.waiting import block_until

FOREVER_NS = 1 << 62


class HostileRemote:
    """Speaks as `remote`; `half` is what it says its half of the challenge is."""

    half = bytes(8)
    epoch = 1

    def __init__(self, site: Site) -> None:
        self.site = site
        self.permit = PermitWriter(site.permits[1])
        self.permit.write(
            motion_until_ns=FOREVER_NS,
            power_until_ns=FOREVER_NS,
            epoch=self.epoch,
            speed_permille=1000,
            response=0,
        )
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.connect(str(site.run_folder / "reflex.sock"))
        self.say(type="hello", role="remote", boot="0" * 32, pid=1)
        self.numbers = 0

    def say(self, **message: object) -> None:
        self.sock.send(json.dumps(message).encode())

    def hear(self, kind: str) -> dict[str, Any]:
        """The next message of a kind, while it goes on beating so as not to be taken for dead."""
        self.sock.settimeout(0.02)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                message = json.loads(self.sock.recv(1 << 17))
            except TimeoutError:
                self.say(type="beat")
                continue
            if message["type"] == kind:
                return dict(message)
        raise AssertionError(f"reflex never said {kind}")

    def content(self, **more: object) -> None:
        """All is well here, it says."""
        state = {"own": 0, "response": 0, "stops": [], "epoch": self.epoch, "half": self.half.hex()}
        self.say(type="state", **state, still=False, blockers=[], causes=[], **more)

    def reflex(self) -> dict[str, Any]:
        return dict(self.site.ask("reflex")["channel"])

    def ready(self) -> dict[str, Any]:
        """Reflex has heard us and has nothing left but its own `starting`."""

        def nothing_left() -> bool:
            self.content()
            told = self.reflex()
            return not told["blockers"] and told["stops"] == ["starting"]

        block_until(nothing_left)
        return self.reflex()

    def send_command(self, token: str) -> str | None:
        self.numbers += 1
        self.content()
        self.say(type="command", token=token, n=self.numbers)
        code: str | None = self.hear("verdict")["code"]
        return code

    def sign(self, kid: str, cmd: str, **args: object) -> str:
        key = load_signing_key(self.site.pki.person(kid).signing_key)
        return self.forge(key, kid, cmd, **args)

    def forge(self, key: Ed25519PrivateKey, kid: str, cmd: str, **args: object) -> str:
        now = int(time.time())
        claims = {"iss": kid, "aud": self.site.robot_id, "iat": now, "exp": now + 60, "jti": uuid.uuid4().hex}
        headers = {"kid": kid, "typ": "warden-cmd+jwt"}
        return jwt.encode({**claims, "cmd": cmd, "args": args}, key, algorithm="EdDSA", headers=headers)

    def challenge(self, told: dict[str, Any]) -> str:
        both = bytes.fromhex(told["half"]) + self.half
        return base64.urlsafe_b64encode(both).rstrip(b"=").decode()

    def resume_for(self, told: dict[str, Any]) -> dict[str, Any]:
        return {"epoch": told["epoch"] + self.epoch, "challenge": self.challenge(told), "reason": "test"}

    def unblocked(self) -> bool:
        self.content()
        return not self.reflex()["blockers"]

    def never_moves(self, cycles: int = 15) -> None:
        first = self.site.account()["mono_ns"]

        def enough() -> bool:
            self.content()
            now = self.site.account()
            assert not now["moving"]
            return bool(now["mono_ns"] - first >= cycles * 20_000_000)

        block_until(enough)

    def runs(self) -> None:
        def moving() -> bool:
            self.content()
            return bool(self.site.account()["moving"])

        block_until(moving)

    def close(self) -> None:
        self.sock.close()


@pytest.fixture
def hostile() -> Iterator[HostileRemote]:
    folder = Path(tempfile.mkdtemp(prefix="w"))
    with Site(folder, broker="mosquitto", modules=("reflex",)) as site:
        remote = HostileRemote(site)
        yield remote
        remote.close()
    shutil.rmtree(folder, ignore_errors=True)


def test_an_honest_guardians_resume_is_what_it_takes(hostile: HostileRemote) -> None:
    """The control: everything below fails for the reason it names, not because nothing could ever work."""
    told = hostile.ready()
    assert hostile.send_command(hostile.sign("guardian-li", "resume", **hostile.resume_for(told))) is None
    hostile.runs()


def test_it_cannot_invent_a_resume(hostile: HostileRemote) -> None:
    told = hostile.ready()
    args = hostile.resume_for(told)
    robots_own = load_signing_key(hostile.site.pki.robot.signing_key)
    attempts = {
        "its own words": "resume",
        "no signature": "e30.e30.",
        "the robot's key": hostile.forge(robots_own, hostile.site.robot_id, "resume", **args),
        "the robot's key in a guardian's name": hostile.forge(robots_own, "guardian-li", "resume", **args),
        "someone not entitled": hostile.sign("authority-zhou", "resume", **args),
        "the department": hostile.sign("department-chen", "resume", **args),
    }
    codes = {name: hostile.send_command(token) for name, token in attempts.items()}
    assert codes == {
        "its own words": "malformed",
        "no signature": "malformed",
        "the robot's key": "unknown_key",
        "the robot's key in a guardian's name": "bad_signature",
        "someone not entitled": "not_entitled",
        "the department": "not_entitled",
    }
    hostile.never_moves()


def test_it_cannot_replay_a_resume(hostile: HostileRemote) -> None:
    token = hostile.sign("guardian-li", "resume", **hostile.resume_for(hostile.ready()))
    assert hostile.send_command(token) is None
    hostile.runs()
    pressed = hostile.site.node_a.control.press("estop")
    block_until(lambda: not hostile.site.account()["moving"])
    assert hostile.site.account()["standstill_ns"] > pressed.at_ns
    hostile.site.node_a.control.release("estop")
    block_until(hostile.unblocked)
    assert hostile.send_command(token) in ("wrong_epoch", "stale_challenge")
    hostile.epoch -= 1  # a lie that makes the old epoch fit again; the challenge still does not
    assert hostile.send_command(token) in ("wrong_epoch", "stale_challenge")
    hostile.never_moves()


def test_it_cannot_use_half_a_challenge(hostile: HostileRemote) -> None:
    told = hostile.ready()
    told["half"] = bytes(8).hex()
    token = hostile.sign("guardian-li", "resume", **hostile.resume_for(told))
    assert hostile.send_command(token) == "stale_challenge"
    hostile.never_moves()


def test_stopping_and_taking_it_back_starts_nothing(hostile: HostileRemote) -> None:
    told = hostile.ready()
    hostile.send_command(hostile.sign("guardian-li", "resume", **hostile.resume_for(told)))
    hostile.runs()
    state = {"own": 5, "response": 5, "stops": ["guardian_stop"], "epoch": 1, "half": bytes(8).hex()}
    hostile.say(type="state", **state, still=False, blockers=[], causes=[])
    block_until(lambda: not hostile.site.account()["moving"])
    hostile.never_moves()


def garbage(remote: HostileRemote) -> None:
    for packet in (b"\xff" * 100, b"{}", b'{"type":"state"}', b"[" * 5000, b'{"type":"state","own":"x"}'):
        remote.sock.send(packet)


def wrong_types(remote: HostileRemote) -> None:
    for _ in range(20):
        remote.say(type="state", own=-1, response=99, stops=[1], epoch=-1, half="zz", blockers="x")
        remote.say(type="command", token=7, n="x")


def flood(remote: HostileRemote) -> None:
    for _ in range(200):
        remote.content()


@pytest.mark.parametrize("nonsense", [garbage, wrong_types, flood])
def test_the_estop_works_whatever_it_says(
    hostile: HostileRemote, nonsense: Callable[[HostileRemote], None]
) -> None:
    told = hostile.ready()
    hostile.send_command(hostile.sign("guardian-li", "resume", **hostile.resume_for(told)))
    hostile.runs()
    hostile.content()
    nonsense(hostile)
    hostile.site.node_a.control.press("estop")
    block_until(lambda: not hostile.site.account()["moving"])
    block_until(lambda: not hostile.site.node_a.control.state().relay)
    assert {cause["id"] for cause in hostile.reflex()["causes"]} >= {"estop_pressed"}


def test_a_second_remote_does_not_take_the_firsts_place(hostile: HostileRemote) -> None:
    hostile.ready()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as second:
        second.connect(str(hostile.site.run_folder / "reflex.sock"))
        second.send(b'{"type":"hello","role":"remote","boot":"' + b"1" * 32 + b'","pid":2}')
        second.settimeout(20)
        assert second.recv(1 << 17) == b""
    hostile.ready()
