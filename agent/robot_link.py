"""The robot link (PROTOCOL 2): the robot's own software says hello, beats, asks for leave, reports.

One robot at a time; its end is told at once. What it says is telemetry, never an order.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.core.envelope import Scalar
from agent.link import MAX_ROBOT_PACKET, Connection, Message, Server

MAX_KEYS = 64
"""Telemetry keys kept; 8 KiB of JSON rarely holds more, and memory stays bounded whatever a robot sends."""


class RobotLink:
    """The server side. Callbacks come from the loop's own callback, with nothing between."""

    def __init__(  # noqa: PLR0913 - the parts of one link, all by keyword
        self,
        loop: asyncio.AbstractEventLoop,
        path: Path,
        *,
        allowed_uids: frozenset[int],
        welcome: Callable[[], Mapping[str, object]],
        on_hello: Callable[[], None],
        on_gone: Callable[[], None],
        on_beat: Callable[[], None],
        on_event: Callable[[str, str], None],
        on_step_result: Callable[[str, bool, str], None],
        authorise: Callable[[str], tuple[bool, str]],
        epoch: Callable[[], int],
        now_ns: Callable[[], int],
        on_bad: Callable[[str], None],
    ) -> None:
        """`on_gone`, `on_beat`, `on_event`: the channel takes its turn inside.

        `authorise(task)` answers (allowed, reason). `epoch`: the robot's, the sum over the permits.
        """
        self.name = ""
        self.since_ns = 0
        """Since when a robot is connected (CLOCK_MONOTONIC), 0 while none is."""
        self.last_beat_ns = 0
        self.telemetry: dict[str, tuple[Scalar, int]] = {}
        self._connection: Connection | None = None
        self._welcome = welcome
        self._on_hello = on_hello
        self._on_gone = on_gone
        self._on_beat = on_beat
        self._on_event = on_event
        self._on_step_result = on_step_result
        self._authorise = authorise
        self._epoch = epoch
        self._now_ns = now_ns
        self._on_bad = on_bad
        self._server = Server(
            loop,
            path,
            allowed_uids=allowed_uids,
            # Who may speak is decided by the peer's uid (PROTOCOL 2), not by the file's mode.
            mode=0o666,
            max_packet=MAX_ROBOT_PACKET,
            on_message=self._heard,
            on_end=self._ended,
            on_bad=on_bad,
            max_connections=4,
        )
        self._handlers: Mapping[str, Callable[[Connection, Message], str | None]] = {
            "hello": self._hello,
            "beat": self._beat,
            "authorise": self._asked,
            "event": self._event,
            "step_result": self._step_result,
        }

    def start(self) -> None:
        """Listens; raises LinkError where the path cannot be had."""
        self._server.start()

    def close(self) -> None:
        """Idempotent."""
        self._server.close()

    def send(self, message: Mapping[str, object]) -> bool:
        """To the robot; False when none is connected or it does not read. Never blocks."""
        return self._connection is not None and self._connection.send(message)

    def _heard(self, connection: Connection, message: Message) -> None:
        kind = str(message["type"])
        handler = self._handlers.get(kind)
        if handler is None:
            self._on_bad(f"unknown type {kind[:40]!r}")
            return
        if kind != "hello" and connection is not self._connection:
            self._on_bad(f"{kind} before hello")
            return
        problem = handler(connection, message)
        if problem is not None:
            self._on_bad(f"{kind}: {problem}")

    def _ended(self, connection: Connection) -> None:
        if connection is not self._connection:
            return
        self._connection = None
        self.since_ns = 0
        self.telemetry = {}
        self._on_gone()

    def _hello(self, connection: Connection, message: Message) -> str | None:
        name = message.get("name")
        if not isinstance(name, str) or len(name) > 64:
            return "name must be text of at most 64 characters"
        if self._connection is not None and connection is not self._connection:
            connection.close()
            return "a robot is connected already"
        self._connection = connection
        self.name = name
        self.since_ns = self.last_beat_ns = self._now_ns()
        self.telemetry = {}
        connection.send({"type": "welcome", **self._welcome()})
        self._on_hello()
        return None

    def _beat(self, _: Connection, message: Message) -> str | None:
        number = message.get("n")
        if isinstance(number, bool) or not isinstance(number, int):
            return "n must be a whole number"
        now_ns = self._now_ns()
        told = message.get("telemetry", {})
        if not isinstance(told, dict):
            return "telemetry must be an object"
        problem = self._take(told, now_ns)
        self.last_beat_ns = now_ns
        self._on_beat()
        return problem

    def _take(self, told: Mapping[str, object], now_ns: int) -> str | None:
        problem = None
        for key, value in told.items():
            if not isinstance(value, (bool, int, float, str)) or not _usable(value):
                problem = f"telemetry {key[:40]!r} must be a number, text or boolean"
                self.telemetry.pop(key, None)
            elif key in self.telemetry or len(self.telemetry) < MAX_KEYS:
                self.telemetry[key] = (value, now_ns)
            else:
                problem = f"more than {MAX_KEYS} telemetry keys"
        return problem

    def _asked(self, connection: Connection, message: Message) -> str | None:
        asked, task = message.get("id"), message.get("task")
        if not isinstance(asked, (str, int)) or not isinstance(task, str) or len(task) > 64:
            return "id and task are needed"
        allowed, reason = self._authorise(task)
        verdict = {
            "type": "verdict",
            "id": asked,
            "allowed": allowed,
            "reason": reason,
            "epoch": self._epoch(),
        }
        connection.send(verdict)
        return None

    def _event(self, _: Connection, message: Message) -> str | None:
        kind, detail = message.get("kind"), message.get("detail", "")
        if not isinstance(kind, str) or not isinstance(detail, str) or len(kind) > 64:
            return "kind must be text of at most 64 characters"
        self._on_event(kind, detail[:500])
        return None

    def _step_result(self, _: Connection, message: Message) -> str | None:
        step_id, done = message.get("id"), message.get("ok")
        if not isinstance(step_id, str) or not isinstance(done, bool):
            return "id must be text and ok a boolean"
        self._on_step_result(step_id[:64], done, str(message.get("detail", ""))[:200])
        return None


def _usable(value: float | str) -> bool:
    """Numbers are finite and fit a float (a whole number of hundreds of digits does not); text is short."""
    if isinstance(value, str):
        return len(value) <= 200
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
