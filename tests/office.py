"""One desk with a real channel behind it; the other module, the world and the wire are the test's."""

import asyncio
import base64
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.core.peer import UNHEARD, PeerView
from agent.core.plan import Plan
from agent.core.responses import Response
from agent.desk import Desk
from agent.dialogue import Effect
from agent.gate import Gate
from agent.publisher import Publisher
from agent.shell import Shell
from agent.tokens import load_roots, load_trust
from hil.pki import Person, Pki, load_signing_key
from tests.channel_lives import blocked, run
from tests.channels import Life, disks
from tests.core.factories import TIMES, but, small_plan
from tests.people import Giver
from tests.published import ROBOT, TOPIC, Line, read

PEOPLE = (
    Person("guardian-li", "李静"),
    Person("guardian-left", "已离任", revoked=True),
    Person("guardian-stale", "培训过期", trained_until="2020-01-01"),
    Person("guardian-elsewhere", "别处", robots=()),
    Person("department-chen", "陈敏", role="department"),
    Person("authority-zhou", "周平", role="authority"),
    Person("maintainer-he", "何勇", role="maintainer"),
)
LONG_NS = 10**12
"""A ttl during which no test ends: the desk reads the real clock."""
NOTHING_SEEN = Effect(withdrawn=False, still=False, running=False)
STANDS = Effect(withdrawn=True, still=True, running=False)


@dataclass
class Office:
    """One desk with a real channel; the other module, the world and the wire are the test's."""

    desk: Desk
    life: Life
    line: Line
    pki: Pki
    shell: Shell
    peer: PeerView = UNHEARD
    effect: Effect = NOTHING_SEEN
    reflex_is_there: bool = True
    asked: list[Mapping[str, object]] = field(default_factory=list)
    records: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def by(self, kid: str) -> Giver:
        return Giver(self.pki, kid)

    def take(self, token: bytes, *, retained: bool = False) -> None:
        self.desk.take(f"{TOPIC}/cmd", token, retained=retained)

    def give(self, cmd: str, args: object = None, kid: str = "guardian-li", **changes: object) -> str:
        """The command's jti."""
        claims = self.by(kid).claims(cmd, args, **changes)
        self.take(self.by(kid).sign(claims))
        return str(claims["jti"])

    def replies(self, jti: str, kid: str = "guardian-li") -> list[tuple[str, str | None]]:
        """(stage, reason) of every reply to this command, in order."""
        key = load_signing_key(self.pki.robot.signing_key).public_key()
        packets = [packet for packet in self.line.sent if packet.topic == f"{TOPIC}/reply/{kid}"]
        claims = [read(packet, key, "warden-reply+jwt", kid) for packet in packets]
        return [(c["stage"], c.get("reason")) for c in claims if c["re"] == jti]

    def refused(self, cmd: str, args: object = None, kid: str = "guardian-li", **changes: object) -> str:
        """Why, once it is certain that it was refused and nothing else."""
        ((stage, reason),) = self.replies(self.give(cmd, args, kid, **changes), kid)
        assert stage == "refused"
        return str(reason)

    def resume_args(self) -> dict[str, object]:
        challenge = self.peer.half + self.life.channel.state.half
        text = base64.urlsafe_b64encode(challenge).rstrip(b"=").decode()
        return {"epoch": self.life.channel.state.epoch + self.peer.epoch, "challenge": text, "reason": "go"}

    def answer(self, code: str | None = None) -> None:
        """Reflex's word on the newest question."""
        self.desk.verdict({"type": "verdict", "n": self.asked[-1]["n"], "code": code})

    def stopped(self) -> bool:
        return self.life.read().motion_until_ns == 0

    def counted(self, cmd: str, result: str) -> int:
        counts: Any = self.shell.meter.snapshot().get("commands_total", [])
        return sum(count for labels, count in counts if labels == [cmd, result])


def desk_plan() -> Plan:
    return small_plan(times=but(TIMES, {"ttl_ns": LONG_NS, "still_ns": 1_000_000_000}))


@contextmanager
def open_office(pki: Pki, folder: Path) -> Iterator[Office]:
    """The robot runs; reflex is heard and content."""
    plan, line = desk_plan(), Line()
    shell = Shell(plan, "remote", asyncio.get_running_loop())
    gate = Gate(load_trust(pki.trust, load_roots([pki.root_jwk])), ROBOT, frozenset({"hall"}))
    with disks():
        now_ns = time.monotonic_ns()
        life = Life("remote", plan, folder, now_ns=now_ns)

        def ask(question: Mapping[str, object]) -> bool:
            if one.reflex_is_there:
                one.asked.append(question)
            return one.reflex_is_there

        desk = Desk(
            shell,
            channel=run(life, now_ns).channel,
            gate=gate,
            publisher=Publisher(plan, line, load_signing_key(pki.robot.signing_key)),
            peer=lambda: one.peer,
            effect=lambda _: one.effect,
            ask_reflex=ask,
        )
        one = Office(desk, life, line, pki, shell)
        one.peer = but(
            UNHEARD, {"connected": True, "epoch": 4, "half": b"_reflex_", "response": Response.NONE}
        )

        def emit(kind: str, body: Mapping[str, object]) -> None:
            one.records.append((kind, dict(body)))

        shell.emit = emit
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shell.sink, "emit", emit)
            yield one
        life.channel.close()


def stop_and_save(office: Office) -> None:
    """A stop whose condition is gone and that is on the disk: nothing blocks a resume."""
    office.give("stop")
    office.life.disk.write()
    office.life.turn(time.monotonic_ns())
    assert office.stopped()
    assert blocked(office.life) == []
    office.line.sent.clear()


def fresh_args(args: Mapping[str, object]) -> dict[str, object]:
    return {key: args[key] for key in ("epoch", "challenge")}
