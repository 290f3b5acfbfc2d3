"""The network log of `remote` (LOG, stream `net`; clause 5.8(b)): connections, topics, sizes, peers.

Connections are recorded one by one, packets as sums per topic and second: a flood makes the numbers larger
and the log no longer. Contents are not in it: what a command said is in `safety`, signed.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

PERIOD_NS = 1_000_000_000
MAX_TOPICS = 64
"""Topics told apart within one period and direction; the rest counts as OTHER."""
OTHER = "…"
MAX_TOPIC = 200
"""Characters kept of a topic."""


class Emit(Protocol):
    """`EventSink.emit`."""

    def __call__(self, kind: str, body: Mapping[str, object], *, stream: str = "safety") -> None:
        """Queues one event."""
        ...


class NetworkLog:
    """Counts on the way, records once a period. Nothing here waits or fails."""

    def __init__(self, emit: Emit, peer: Callable[[], str]) -> None:
        """`peer`: the broker's address as it is connected, "" without."""
        self._emit = emit
        self._peer = peer
        self._due_ns = 0
        self._traffic: dict[str, dict[str, list[int]]] = {"in": {}, "out": {}}

    def received(self, topic: str, size: int) -> None:
        """One packet from the broker."""
        self._count("in", topic, size)

    def sent(self, topic: str, size: int) -> None:
        """One packet handed to the broker."""
        self._count("out", topic, size)

    def _count(self, direction: str, topic: str, size: int) -> None:
        topics = self._traffic[direction]
        name = topic[:MAX_TOPIC]
        if name not in topics and len(topics) >= MAX_TOPICS:
            name = OTHER
        sums = topics.setdefault(name, [0, 0])
        sums[0] += 1
        sums[1] += size

    def link(self, *, up: bool, why: str, about: Mapping[str, object]) -> None:
        """A connection began or ended; `about`: peer, protocol, cipher as far as they are known."""
        self._tell()
        self._emit("mqtt_link", {"up": up, "why": why, **about}, stream="net")

    def tick(self, now_ns: int) -> None:
        """Once per turn of the loop (CLOCK_MONOTONIC)."""
        if now_ns >= self._due_ns:
            self._due_ns = now_ns + PERIOD_NS
            self._tell()

    def _tell(self) -> None:
        """`in` and `out`: topic -> [packets, bytes]."""
        if not any(self._traffic.values()):
            return
        body = {"peer": self._peer(), **{way: topics for way, topics in self._traffic.items() if topics}}
        self._traffic = {"in": {}, "out": {}}
        self._emit("mqtt_traffic", body, stream="net")
