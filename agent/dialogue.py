"""What became of each command.

Its stages (`accepted`, `actuated`, `verified`; `refused`, `failed`), told once each as the *effect* is
seen (PROTOCOL 3; DESIGN, principle 7).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from agent.core.commands import Code

STOP_MARGIN_NS = 500_000_000
"""Beyond `still_ms`, in which `reflex` sees the standstill, for it to be told on."""
START_NS = 1_500_000_000
"""A granted resume that has not started the robot by then has failed (the acknowledgement lasts 1 s)."""
MAX_OPEN = 64
"""Commands whose effect is still awaited; the oldest gives way."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What is seen of the robot as a whole.

    `withdrawn`: no permit permits motion and the outputs that must be are read back de-energised.
    `still`: standstill (silence) observed. `running`: every permit permits.
    """

    withdrawn: bool
    still: bool
    running: bool


@dataclass(slots=True)
class Entry:
    """One command. `read_ns`: when its packet was read (CLOCK_MONOTONIC)."""

    kid: str
    jti: str
    cmd: str
    read_ns: int
    exp: float = 0.0
    stages: list[str] = field(default_factory=list)


Tell = Callable[[Entry, str, Code | None], None]


class Dialogue:
    """The commands whose effect is still awaited."""

    def __init__(self, tell: Tell, *, still_ns: int) -> None:
        self._tell = tell
        self._still_ns = still_ns
        self._stops: list[Entry] = []
        self._starts: list[Entry] = []

    def refuse(self, entry: Entry, code: Code) -> None:
        """The last word on a command that does nothing."""
        self._say(entry, "refused", code)

    def accept(self, entry: Entry) -> None:
        """The last word on a command whose effect is nothing to wait for (`ping`)."""
        self._say(entry, "accepted")

    def await_stop(self, entry: Entry) -> None:
        """Accepted; its effect is a stop."""
        self._say(entry, "accepted")
        self._stops = [*self._stops[1 - MAX_OPEN :], entry]

    def await_start(self, entry: Entry) -> None:
        """Accepted; its effect is that the robot may run."""
        self._say(entry, "accepted")
        self._starts = [*self._starts[1 - MAX_OPEN :], entry]

    def fail(self, entry: Entry, code: Code) -> None:
        """It was taken and its effect did not come."""
        self._say(entry, "failed", code)

    @property
    def waiting(self) -> bool:
        """Whether any effect is awaited."""
        return bool(self._stops or self._starts)

    def look(self, effect: Effect, now_ns: int) -> None:
        """Once per turn: tells what has been seen by now."""
        self._stops = [entry for entry in self._stops if not self._stop_done(entry, effect, now_ns)]
        self._starts = [entry for entry in self._starts if not self._start_done(entry, effect, now_ns)]

    def _stop_done(self, entry: Entry, effect: Effect, now_ns: int) -> bool:
        if effect.withdrawn and "actuated" not in entry.stages:
            self._say(entry, "actuated")
        if effect.withdrawn and effect.still:
            self._say(entry, "verified")
            return True
        if now_ns - entry.read_ns > self._still_ns + STOP_MARGIN_NS:
            self._say(entry, "failed", Code.NOT_VERIFIED_IN_TIME)
            return True
        return False

    def _start_done(self, entry: Entry, effect: Effect, now_ns: int) -> bool:
        if effect.running:
            self._say(entry, "actuated")
            return True
        if now_ns - entry.read_ns > START_NS:
            self._say(entry, "failed", Code.NOT_VERIFIED_IN_TIME)
            return True
        return False

    def _say(self, entry: Entry, stage: str, code: Code | None = None) -> None:
        entry.stages.append(stage)
        self._tell(entry, stage, code)
