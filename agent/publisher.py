"""What `remote` tells people: state, events, replies, signed with the robot's own key (PROTOCOL 3)."""

import base64
import json
import time
from collections.abc import Mapping
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import tokens
from agent.channel import Channel
from agent.core.commands import Code
from agent.core.machine import Outcome
from agent.core.peer import PeerView
from agent.core.plan import Plan
from agent.core.resume import HALF_BYTES
from agent.dialogue import Entry
from agent.mqtt import SLOW_ROUND_TRIP_S, MqttLink, Outgoing

STATE_NS = 10_000_000_000
"""The state is repeated every 10 s (PROTOCOL 3)."""
TELEMETRY_NS = 1_000_000_000


class Robot(Protocol):
    """What the publisher needs to see of the whole robot."""

    channel: Channel
    peer: PeerView
    peer_causes: list[dict[str, object]]

    @property
    def log_head(self) -> dict[str, object] | None:
        """Number and hash of the ledger's last entry; None while it is not known."""
        ...


class Publisher:
    """Builds, signs and hands over; never waits."""

    def __init__(self, plan: Plan, link: MqttLink, key: Ed25519PrivateKey) -> None:
        self._plan = plan
        self._link = link
        self._key = key
        self._topic = f"warden/v1/{plan.robot.id}"
        self._sequence = 0
        self._changed = True
        self._state_due_ns = 0
        self._telemetry_due_ns = 0

    def changed(self) -> None:
        """The state is published at the next tick."""
        self._changed = True

    def tick(self, now_ns: int, robot: Robot) -> None:
        """Once per tick: the state, when it changed or is due."""
        if self._link.connected and (self._changed or now_ns >= self._state_due_ns):
            self._changed = False
            self._state_due_ns = now_ns + STATE_NS
            self._publish("state", tokens.STATE, self.state(robot, now_ns), retain=True)

    def greet(self, robot: Robot) -> None:
        """Right after connecting."""
        self._link.publish(Outgoing(f"{self._topic}/link", b'{"online": true}', 1, retain=True))
        self.tick_at_once(robot)

    def tick_at_once(self, robot: Robot) -> None:
        """The state now."""
        self._changed = True
        self.tick(time.monotonic_ns(), robot)

    def farewell(self) -> None:
        """An ordered end: what the will would say."""
        if self._link.connected:
            self._link.publish(Outgoing(f"{self._topic}/link", b'{"online": false}', 1, retain=True))

    def reply(self, entry: Entry, stage: str, code: Code | None, after_us: int) -> str:
        """Publishes one stage; the token, for a repeated command."""
        claims: dict[str, object] = {"re": entry.jti, "stage": stage, "after_us": after_us}
        if code is not None:
            claims["reason"] = code.value
        token = self._sign(tokens.REPLY, claims, entry.kid)
        self.repeat(entry.kid, token)
        return token

    def repeat(self, kid: str, token: str) -> None:
        """Publishes an earlier answer again."""
        self._link.publish(Outgoing(f"{self._topic}/reply/{kid}", token.encode()))

    def event(self, robot: Robot, outcome: Outcome) -> None:
        """A stop, a cause, a start: what a guardian wants to be told of at once."""
        state = robot.channel.state
        fields: dict[str, object] = {
            "kind": "stop" if outcome.rose else "change",
            "channel": robot.channel.name,
            "response": state.response.label,
            "epoch": state.epoch + robot.peer.epoch,
            "raised": list(outcome.raised),
            "gone": list(outcome.gone),
            "cleared": list(outcome.cleared),
            "time": round(time.time(), 3),
        }
        if self._link.connected:
            self._publish("event", tokens.EVENT, fields, retain=False)

    def telemetry(self, data: object) -> None:
        """Plain JSON, once a second at most (PROTOCOL 3)."""
        now_ns = time.monotonic_ns()
        if self._link.connected and isinstance(data, Mapping) and now_ns >= self._telemetry_due_ns:
            self._telemetry_due_ns = now_ns + TELEMETRY_NS * 9 // 10
            payload = json.dumps({**data, "time": round(time.time(), 3)}, allow_nan=False).encode()
            self._link.publish(Outgoing(f"{self._topic}/telemetry", payload, qos=0))

    def state(self, robot: Robot, now_ns: int) -> dict[str, object]:
        """The claims of the state (PROTOCOL 3)."""
        channel, peer, plan = robot.channel, robot.peer, self._plan
        own = channel.state
        causes = (
            [*robot.peer_causes, *channel.causes_view(now_ns)]
            if peer.connected
            else channel.causes_view(now_ns)
        )
        worst = max(own.response, peer.response)
        self._sequence += 1
        return {
            "robot_id": plan.robot.id,
            "name": plan.robot.name,
            "kind": plan.robot.kind,
            "risk": plan.robot.risk,
            "seq": self._sequence,
            "response": worst.label,
            "epoch": own.epoch + peer.epoch,
            "challenge": base64.urlsafe_b64encode((peer.half or bytes(HALF_BYTES)) + own.half)
            .rstrip(b"=")
            .decode(),
            "causes": sorted(causes, key=_since),
            "blockers": sorted({*channel.blockers, *peer.blockers}),
            "channels": {
                "reflex": {
                    "response": peer.response.label,
                    "motion": peer.connected and not peer.response.stops,
                    "alive": peer.connected,
                },
                "remote": {"response": own.response.label, "motion": not own.response.stops, "alive": True},
            },
            "link": {"online": True, "slow": self._slow()},
            "present": [],
            "maintenance": "maintenance" in channel.standing,
            "agent": {"version": plan.agent_version, "digest": plan.agent_digest},
            "log": {"head": robot.log_head},
            "time": round(time.time(), 3),
        }

    def _slow(self) -> bool:
        """True when not one acknowledgement came quickly: the broker lacks `set_tcp_nodelay true`."""
        return SLOW_ROUND_TRIP_S < self._link.round_trip_s < float("inf")

    def _publish(self, topic: str, typ: str, claims: dict[str, object], *, retain: bool) -> None:
        token = self._sign(typ, claims, "*")
        self._link.publish(Outgoing(f"{self._topic}/{topic}", token.encode(), retain=retain))

    def _sign(self, typ: str, claims: dict[str, object], audience: str) -> str:
        robot_id = self._plan.robot.id
        head = {"iss": robot_id, "aud": audience, "iat": int(time.time()), "jti": tokens.new_jti()}
        return tokens.sign({**head, **claims}, key=self._key, kid=robot_id, typ=typ)


def _since(cause: Mapping[str, object]) -> float:
    since = cause.get("since")
    return since if isinstance(since, float) else 0.0
