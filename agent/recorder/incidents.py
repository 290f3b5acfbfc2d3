"""Incidents: a stop, with what the robot told before and after it (LOG, "Streams and files").

The robot's telemetry comes here several times a second and stays in a ring in memory; the log keeps one a
second. When a stop begins, the ring goes into the log, and for a while everything that comes.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.core.responses import Response, by_label
from agent.recorder.log import Record

MAX_RING = 2_048
"""Samples in memory, whatever the plan says: 10 a second for 200 s."""
CHUNK = 32
"""Samples in one record, and at most CHUNK_BYTES of them."""
CHUNK_BYTES = 24_000


@dataclass(frozen=True, slots=True)
class Sample:
    """What the robot told at one moment. `size`: bytes of it as JSON."""

    wall_ns: int
    boottime_ns: int
    data: Mapping[str, object]
    size: int


@dataclass(frozen=True, slots=True)
class Incident:
    """One stop. The window `from_ns` to `to_ns` (wall time) is held: no deletion touches it."""

    id: str
    channel: str
    response: str
    epoch: int
    from_ns: int
    to_ns: int

    def body(self) -> dict[str, object]:
        """Of its ledger entry; no personal data in it."""
        return {
            "id": self.id,
            "channel": self.channel,
            "response": self.response,
            "epoch": self.epoch,
            "from_ns": self.from_ns,
            "to_ns": self.to_ns,
        }


class Incidents:
    """Sees every record on its way, and every sample."""

    def __init__(
        self,
        *,
        before_ns: int,
        after_ns: int,
        begun: Callable[[Incident], None],
        keep: Callable[[Mapping[str, object]], None],
    ) -> None:
        """`begun`: a stop began. `keep`: the body of one `incident_samples` record, at most 32 KiB."""
        self._before_ns, self._after_ns = before_ns, after_ns
        self._begun, self._keep = begun, keep
        self._ring: deque[Sample] = deque(maxlen=MAX_RING)
        self._during: list[Sample] = []
        self._current: Incident | None = None
        self._until_ns = 0

    def sample(self, sample: Sample) -> None:
        """One more; into the ring, or into the log while an incident lasts."""
        if self._current is not None and sample.boottime_ns <= self._until_ns:
            self._during.append(sample)
            if len(self._during) >= CHUNK or sum(one.size for one in self._during) > CHUNK_BYTES:
                self._flush()
            return
        self._ring.append(sample)
        while self._ring[0].boottime_ns < sample.boottime_ns - self._before_ns:
            self._ring.popleft()

    def observe(self, record: Record, now_ns: int) -> None:
        """`now_ns`: CLOCK_BOOTTIME. A record of a channel that went from running, or weaker, into a stop."""
        found = _stop(record)
        if found is None:
            return
        channel, response, epoch = found
        if self._current is not None and now_ns <= self._until_ns:
            return  # the other channel follows the first, or the stop gets worse: one incident
        wall_ns = record.wall_ns
        self._until_ns = now_ns + self._after_ns
        self._current = Incident(
            f"{channel}-{epoch}",
            channel,
            response,
            epoch,
            max(0, wall_ns - self._before_ns),
            wall_ns + self._after_ns,
        )
        self._begun(self._current)
        self._during.extend(self._ring)
        self._ring.clear()
        self._flush()

    def tick(self, now_ns: int) -> None:
        """Ends an incident whose window is over. `now_ns`: CLOCK_BOOTTIME."""
        if self._current is not None and now_ns > self._until_ns:
            self._flush()
            self._current = None

    def _flush(self) -> None:
        samples, self._during = self._during, []
        for chunk in _chunks(samples):
            self._keep(
                {
                    "incident": self._current.id if self._current is not None else "",
                    "wall_ns": [one.wall_ns for one in chunk],
                    "boottime_ns": [one.boottime_ns for one in chunk],
                    "data": [one.data for one in chunk],
                }
            )


def _chunks(samples: Sequence[Sample]) -> list[list[Sample]]:
    chunks: list[list[Sample]] = []
    room = 0
    for one in samples:
        if not chunks or len(chunks[-1]) >= CHUNK or one.size > room:
            chunks.append([])
            room = CHUNK_BYTES
        chunks[-1].append(one)
        room -= one.size
    return chunks


def _stop(record: Record) -> tuple[str, str, int] | None:
    """Channel, response and epoch where the record tells of a stop that began or got worse."""
    if record.kind != "response":
        return None
    body = record.body
    channel, epoch = body.get("channel"), body.get("epoch")
    before, after = _response(body.get("from")), _response(body.get("to"))
    if before is None or after is None or not isinstance(channel, str) or type(epoch) is not int:
        return None
    return (channel, after.label, epoch) if after.stops and after > before else None


def _response(label: object) -> Response | None:
    try:
        return by_label(str(label))
    except (KeyError, ValueError):
        return None
