"""A relay with a stand-in ledger and a stand-in remote; witnesses sign with keys of their own."""

import json
import math
from collections.abc import Mapping
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.link import Connection, decode_packet
from agent.recorder.log import LogError
from agent.recorder.relay import Entry, LedgerRelay
from agent.tokens import raw_public_key, sign
from tests.console.witness.ledgers import Chain, key_from, sha

WITNESSES = ("w1", "w2")
KEYS: dict[str, Ed25519PrivateKey] = {kid: key_from(kid) for kid in (*WITNESSES, "stranger")}


class StandIn:
    """A ledger in memory. `trouble`: raised by whatever is asked of it."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.trouble: LogError | None = None
        self.reads = 0

    @property
    def head(self) -> tuple[int, str] | None:
        lines = self.chain.lines
        return (len(lines) - 1, sha(lines[-1])) if lines else None

    def entries_after(self, n: int, limit: int) -> list[Entry]:
        self._fail()
        self.reads += 1
        found = self.chain.lines[n + 1 : n + 1 + limit]
        return [(n + 1 + i, line, sha(line)) for i, line in enumerate(found)]

    def append(self, kind: str, body: Mapping[str, object]) -> None:
        self._fail()
        self.chain.add(kind, body)

    def _fail(self) -> None:
        if self.trouble is not None:
            raise self.trouble


class Remote:
    """A connection that keeps what it is sent, as far as it has room."""

    def __init__(self, role: str = "remote") -> None:
        self.role = role
        self.room = 10_000
        self.packets: list[bytes] = []

    def send_packet(self, packet: bytes) -> bool:
        if len(self.packets) >= self.room:
            return False
        self.packets.append(packet)
        return True

    def taken(self) -> list[dict[str, Any]]:
        """What came since the last call."""
        messages = [dict(decode_packet(packet)) for packet in self.packets]
        self.packets.clear()
        return messages

    def numbers(self) -> list[int]:
        return [message["n"] for message in self.taken()]


class Scene:
    """One relay. `recording`: receipts go into the ledger, which makes entries of its own."""

    def __init__(
        self, chain: Chain, witnesses: tuple[str, ...] = ("w1",), *, recording: bool = False
    ) -> None:
        self.chain = chain
        self.ledger = StandIn(chain)
        self.now_s = 5000.0
        self.notes: list[tuple[str, dict[str, object]]] = []
        self.refused: list[str] = []
        self.relay = LedgerRelay(
            chain.robot,
            self.ledger,
            {kid: raw_public_key(KEYS[kid]) for kid in witnesses},
            note=lambda kind, body: self.notes.append((kind, dict(body))),
            refuse=self.refused.append,
            clock=lambda: self.now_s,
        )
        self.remote = Remote()
        for peer in self.relay._peers.values():
            peer.record_at_s = -math.inf if recording else math.inf

    def connection(self, remote: Remote | None = None) -> Connection:
        return cast("Connection", remote or self.remote)

    def open(self) -> list[int]:
        self.relay.opened(self.connection())
        return self.remote.numbers()

    def tick(self, after_s: float = 0.0) -> list[int]:
        self.now_s += after_s
        self.relay.tick()
        return self.remote.numbers()

    def grow(self, count: int = 1) -> list[int]:
        self.chain.grow(count)
        return self.tick()

    def token(self, n: int, kid: str = "w1", /, **changes: object) -> str:
        digest = sha(self.chain.lines[n]) if 0 <= n < len(self.chain.lines) else ""
        claims: dict[str, object] = {
            "iss": kid,
            "aud": self.chain.robot,
            "iat": int(self.now_s),
            "n": n,
            "hash": digest,
            "witness_time": int(self.now_s),
        }
        head = {"key": KEYS[kid], "kid": kid, "typ": "warden-witness+jwt"}
        for name in set(changes) & set(head):
            head[name] = changes.pop(name)
        return sign({**claims, **changes}, **head)  # type: ignore[arg-type]

    def hear(self, token: str) -> None:
        self.relay.heard(self.connection(), {"type": "witness_ack", "token": token})

    def ack(self, n: int, kid: str = "w1", /, **changes: object) -> list[int]:
        """What remote is sent after this receipt."""
        self.hear(self.token(n, kid, **changes))
        return self.tick()

    def recorded(self) -> list[tuple[str, int]]:
        entries = [json.loads(line) for line in self.chain.lines]
        return [(e["body"]["kid"], e["body"]["n"]) for e in entries if e["kind"] == "witness.ack"]
