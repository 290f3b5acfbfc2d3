"""What `reflex` knows of the recorder, and what it gives it of the robot.

A recorder that is away, or keeps nothing, is the cause `recorder_lost`; one that says how full its disk is
may raise `log_space`. It can stop the robot so, and do nothing else to it.
"""

import time
from collections.abc import Mapping

from agent.core.causes import Clear
from agent.core.envelope import Scalar
from agent.core.machine import Demand
from agent.core.responses import Response
from agent.events import EventSink
from agent.link import Message

NO_TASKS, RESERVE_ONLY = 4, 5
"""Levels of the recorder's disk (LOG, "Disk"): from the first on no task is begun, the second is a stop."""
SAMPLE_TICKS = 10
"""Of 10 ms: ten samples a second reach the recorder's ring, for what came before an incident."""
RECORD_TICKS = 100
"""One of them a second is kept in the log."""


class Keeping:
    """The recorder as `reflex` sees it. `level`: of its disk, 0 to 5, as it said last."""

    def __init__(self, sink: EventSink, *, lost_ns: int, now_ns: int) -> None:
        """`lost_ns`: how long it may be away (the plan's `recorder_lost_ms`); `now_ns`: CLOCK_MONOTONIC."""
        self.level = 0
        self._sink = sink
        self._lost_ns = lost_ns
        self._seen_ns = now_ns
        self._ticks = 0
        sink.on_message = self._heard

    def demands(self, now_ns: int) -> Mapping[str, Demand]:
        """The causes that are true now."""
        found: dict[str, Demand] = {}
        if self._keeps():
            self._seen_ns = now_ns
        elif now_ns - self._seen_ns > self._lost_ns:
            found["recorder_lost"] = Demand()
        if self.level >= RESERVE_ONLY:
            found["log_space"] = Demand(detail="reserve only")
        elif self.level >= NO_TASKS:
            found["log_space"] = Demand(Response.WARN, Clear.AUTO, "no new tasks")
        return found

    def _keeps(self) -> bool:
        """Connected, and what it was given is soon on the disk: one that hangs keeps nothing either."""
        oldest_ns = self._sink.oldest_pending_boottime_ns
        if oldest_ns is None:
            return self._sink.connected
        waiting_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - oldest_ns
        return self._sink.connected and waiting_ns < self._lost_ns

    def _heard(self, message: Message) -> bool:
        level = message.get("level")
        if message["type"] != "space" or type(level) is not int or not 0 <= level <= RESERVE_ONLY:
            return False
        self.level = level
        return True

    def tick(self, telemetry: Mapping[str, tuple[Scalar, int]]) -> None:
        """Once per tick of 10 ms. Not on the stop path: a sample that does not fit is left out."""
        self._ticks += 1
        if not telemetry or self._ticks % SAMPLE_TICKS:
            return
        told = {key: value for key, (value, _) in telemetry.items()}
        if self._ticks % RECORD_TICKS == 0:
            self._sink.emit("telemetry", told, stream="tele")
        self._sink.offer(
            {
                "type": "sample",
                "wall_ns": time.time_ns(),
                "boottime_ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME),
                "data": told,
            }
        )
