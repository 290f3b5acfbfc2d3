"""What a session tells its user: the stages of a command, and what robots say of themselves."""

from collections.abc import Iterable
from dataclasses import dataclass

from console.errors import DONE, FAILED, NO_ANSWER, REFUSED
from console.messages import Event, State

STATE_FRESH_S = 30.0
"""A state is published at least every 10 s (PROTOCOL 3): three missed ones, and the robot is not there."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of one command at one robot.

    `stage`: PROTOCOL's `accepted`, `actuated`, `verified`, `refused`, `failed`; and of this side `sent`,
    `unverified` (a reply that is not to be believed) and `silent` (none that ends the command came in time).
    """

    robot_id: str
    stage: str
    here_ms: float
    """Since the command was published, by this machine's clock."""
    reason: str = ""
    """A code, with `refused`, `failed` and `unverified`."""
    after_us: int | None = None
    """Since the robot read the packet, by its own account."""
    exit_code: int | None = None
    """Of PROTOCOL 7 once the command has ended at this robot, None before."""


@dataclass(frozen=True, slots=True)
class StateSeen:
    """A state whose signature is the robot's."""

    robot_id: str
    state: State


@dataclass(frozen=True, slots=True)
class EventSeen:
    """An event whose signature is the robot's."""

    robot_id: str
    event: Event


@dataclass(frozen=True, slots=True)
class LinkSeen:
    """What the broker says about a robot's connection; nobody signs it."""

    robot_id: str
    online: bool


@dataclass(frozen=True, slots=True)
class Problem:
    """What came in a robot's name and is not to be believed. `topic`: its last part; `code`: PROTOCOL 3's."""

    robot_id: str
    topic: str
    code: str
    reason: str


Update = StateSeen | EventSeen | LinkSeen | Problem


def outcome(stages: Iterable[Stage]) -> int:
    """The exit code of a command from all its stages: 0 only when it is done at every robot, else the worst.

    Worst first: no answer, failed, refused. A robot that is silent may be running.
    """
    last = {stage.robot_id: stage.exit_code for stage in stages if stage.stage != "unverified"}
    codes = set(last.values())
    if None in codes or not codes:
        return FAILED
    return next((code for code in (NO_ANSWER, FAILED, REFUSED) if code in codes), DONE)
