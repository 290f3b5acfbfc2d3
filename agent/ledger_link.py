"""`remote` carries the ledger: the recorder's lines to the broker, witnesses' receipts back, unjudged.

None of it may stand before a stop or its answers. Few lines are on their way at once, few wait, and what
there is no room for is dropped: the recorder says again what no witness has acknowledged.
"""

import re
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from agent.link import Message
from agent.mqtt import MAX_PACKET, Outgoing

MAX_HEAD: Final = 2**53
MAX_ON_THEIR_WAY: Final = 4
"""Publishes of any kind on the link while a line may follow: a reply waits for four lines at most."""
MAX_WAITING: Final = 64
"""Lines, and receipts, that wait here; each twice a recorder's window."""
MAX_WAITING_BYTES: Final = 256 * 1024
MAX_RECEIPT_BYTES: Final = 2_048
"""A receipt has about 500."""
RECEIPTS_PER_TICK: Final = 16
"""With a turn each 20 ms, 800 a second: each costs the recorder the check of a signature, 0.1 ms."""
_FRAMING: Final = 32
"""Bytes of a PUBLISH besides topic and payload: 5 of fixed header, 2 of topic length, 2 of id, properties."""
_HASH: Final = re.compile(r"[0-9a-f]{64}")


class Broker(Protocol):
    """What is needed of the guardians' link."""

    connected: bool

    @property
    def waiting(self) -> int:
        """Publishes not yet acknowledged."""
        ...

    def publish(self, packet: Outgoing) -> None:
        """Without waiting."""
        ...


class LedgerLink:
    """`head`: how far the ledger goes, as the recorder said last; None before. `dropped`: both ways."""

    def __init__(
        self,
        robot_id: str,
        broker: Broker,
        *,
        offer: Callable[[Mapping[str, object]], bool],
        bad: Callable[[str], None],
    ) -> None:
        """`offer(message)`: to the recorder, if it goes at once. `bad(reason)`: what is refused, in words."""
        self.topic = f"warden/v1/{robot_id}/ledger"
        self.ack_topic = f"{self.topic}/ack"
        self.head: dict[str, object] | None = None
        self.dropped = 0
        self._broker = broker
        self._offer = offer
        self._bad = bad
        self._max_line = MAX_PACKET - len(self.topic) - _FRAMING
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._receipts: deque[str] = deque()

    def told(self, message: Message) -> bool:
        """What the recorder says; False when it is not about the ledger, or malformed."""
        line, head = message.get("line"), _head(message.get("head"))
        if message["type"] != "ledger" or not isinstance(line, str) or head is None:
            return False
        self.head = head
        self._take(line.encode("utf-8", "replace"))
        self._publish()
        return True

    def _take(self, line: bytes) -> None:
        if len(line) > self._max_line:
            # The broker would end the connection for it, and no stop could arrive on one that is not there.
            self._bad(f"a ledger line of {len(line)} bytes, at most {self._max_line} can be published")
            self.dropped += 1
        elif not self._broker.connected or len(self._lines) >= MAX_WAITING or self._is_full(len(line)):
            self.dropped += 1
        else:
            self._lines.append(line)
            self._bytes += len(line)

    def _is_full(self, more: int) -> bool:
        return self._bytes + more > MAX_WAITING_BYTES

    def acknowledged(self, payload: bytes, *, retained: bool) -> None:
        """What came on `…/ledger/ack`. A receipt is never retained: what is, somebody put there."""
        if retained or len(payload) > MAX_RECEIPT_BYTES or not payload.isascii():
            self._bad(f"ledger/ack: {len(payload)} bytes{', retained' if retained else ''}")
        elif len(self._receipts) >= MAX_WAITING:
            self.dropped += 1
        else:
            self._receipts.append(payload.decode("ascii"))

    def tick(self) -> None:
        """Once per turn of the loop."""
        if self._lines:
            self._publish()
        for _ in range(min(RECEIPTS_PER_TICK, len(self._receipts))):
            if not self._offer({"type": "witness_ack", "token": self._receipts[0]}):
                break
            self._receipts.popleft()

    def _publish(self) -> None:
        if not self._broker.connected:  # what waits is said again, in order
            self.dropped += len(self._lines)
            self._lines.clear()
            self._bytes = 0
        while self._lines and self._broker.waiting < MAX_ON_THEIR_WAY:
            line = self._lines.popleft()
            self._bytes -= len(line)
            self._broker.publish(Outgoing(self.topic, line))


def _head(value: object) -> dict[str, object] | None:
    """`{"n","hash"}` of a ledger; None for anything else."""
    if not isinstance(value, Mapping):
        return None
    n, digest = value.get("n"), value.get("hash")
    if type(n) is not int or not 0 <= n <= MAX_HEAD or not isinstance(digest, str):
        return None
    return {"n": n, "hash": digest} if _HASH.fullmatch(digest) else None
