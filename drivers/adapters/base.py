"""What a robot adapter is to the rest of the program.

A protocol (DESIGN, "Plan") is an ordered list of steps: stop motion, stop generation, cut power, eliminate.
An adapter carries a step out on the robot's own software or hardware and says how it went. It never decides:
whether, when and in which order is the module's business (`drivers.adapters.runner`).

Whatever the world does (no such process, a server that answers garbage, a program that never ends) is a
result, never an exception into the loop.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

MS = 1_000_000
"""Nanoseconds."""
MAX_DEADLINE_MS = 600_000
"""Ten minutes: a step that may take longer is no step of an emergency."""
MAX_DETAIL = 200
"""Characters of a result's detail."""


class Outcome(StrEnum):
    """How a step ended."""

    DONE = "done"
    """Its effect was observed, at its deadline or before."""
    FAILED = "failed"
    """It cannot be carried out, or its effect was not observed within a bounded time after its deadline."""
    LATE = "late"
    """Its effect was observed, after its deadline."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step as the module orders it.

    `id`: what the result will name, 1 to 64 characters, unique among the steps under way. `step`: the word of
    the protocol (`stop_motion`). `epoch`: of the stop that it belongs to. `deadline_ms`: from its begin, 1 to
    600,000. `args`: for the adapter, as `registry.check_args` passed them.
    """

    id: str
    step: str
    epoch: int
    deadline_ms: int
    args: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class StepResult:
    """How one step ended. `after_ms`: since its begin, whole milliseconds. `detail`: one line for people."""

    id: str
    outcome: Outcome
    after_ms: int
    detail: str


OnResult: TypeAlias = Callable[[StepResult], None]
Send: TypeAlias = Callable[[Mapping[str, object]], bool]
"""A message to the robot; False when it could not be handed over. Never blocks, never raises."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the module gives an adapter.

    `now_ns`: CLOCK_MONOTONIC, nanoseconds. `on_result`: called once for each step begun, from the loop, from
    `poll`, from `close`, and from `begin` itself when the step cannot even be begun; it may call the adapter
    again. `send`: the robot link, None in a module that has none.
    """

    loop: asyncio.AbstractEventLoop
    now_ns: Callable[[], int]
    on_result: OnResult
    send: Send | None = None


class Adapter(Protocol):
    """One way to the robot, carrying out several steps at a time."""

    @property
    def name(self) -> str:
        """Kind and name in the plan, for records and messages: `process llm`."""

    def begin(self, step: Step, now_ns: int) -> None:
        """Start on a step. Never blocks, never raises; the result comes through `on_result`."""

    def poll(self, now_ns: int) -> list[StepResult]:
        """Judge effects and deadlines at `now_ns`; called every 10 ms.

        The results that became known in this very call, each of which `on_result` has heard too.
        """

    def close(self) -> None:
        """End what is under way (reported as failed) and let go of everything. Idempotent."""


def one_line(text: str, limit: int = MAX_DETAIL) -> str:
    """Text from outside made fit for a detail: printable, on one line, at most `limit` characters."""
    words = "".join(char if char.isprintable() else " " for char in text[: 4 * limit]).split()
    line = " ".join(words)
    return line if len(line) <= limit else line[: limit - 1] + "…"
