"""What every adapter does alike: keep its steps, judge deadlines, report each step once.

A step is open from `begin` until its result. Finished by its deadline it is done, afterwards late; not
finished `grace_ms` after its deadline it is failed, and its work is ended, so nothing is kept for longer
than that.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, Protocol

from drivers.adapters.base import (
    MAX_DEADLINE_MS,
    MS,
    Outcome,
    Step,
    StepResult,
    Surroundings,
    one_line,
)

MAX_OPEN: Final = 16
"""Steps under way in one adapter; a protocol has a handful, and what comes above is refused."""
MAX_ID: Final = 64


class Work(Protocol):
    """How one step is being carried out."""

    def tick(self, now_ns: int) -> None:
        """Called from `poll` while the step is open."""

    def end(self) -> None:
        """Let go; nothing is done afterwards. Called once, whatever the result."""


class Job:
    """One step under way: what its work reports to."""

    __slots__ = ("_on_result", "begun_ns", "deadline_ns", "give_up_ns", "open", "step", "work")

    def __init__(
        self, step: Step, begun_ns: int, grace_ms: int, on_result: Callable[["Job", StepResult], None]
    ) -> None:
        self.step = step
        self.begun_ns = begun_ns
        self.deadline_ns = begun_ns + step.deadline_ms * MS
        self.give_up_ns = self.deadline_ns + grace_ms * MS
        self.open = True
        self.work: Work | None = None
        self._on_result = on_result

    def done(self, detail: str, now_ns: int) -> None:
        """The effect was observed; late when the deadline is over."""
        self._finish(Outcome.DONE if now_ns <= self.deadline_ns else Outcome.LATE, detail, now_ns)

    def failed(self, detail: str, now_ns: int) -> None:
        """The step cannot be carried out."""
        self._finish(Outcome.FAILED, detail, now_ns)

    def _finish(self, outcome: Outcome, detail: str, now_ns: int) -> None:
        if not self.open:
            return
        self.open = False
        after_ms = max(0, now_ns - self.begun_ns) // MS
        self._on_result(self, StepResult(self.step.id, outcome, after_ms, one_line(detail)))


class StepKeeper(ABC):
    """The part of an adapter that is the same for all kinds; each kind says how a step is started."""

    def __init__(self, name: str, around: Surroundings, grace_ms: int) -> None:
        self.name = name
        self._around = around
        self._grace_ms = grace_ms
        self._jobs: dict[str, Job] = {}
        self._polled: list[StepResult] | None = None
        self._closed = False

    def begin(self, step: Step, now_ns: int) -> None:
        """Start on a step; see `base.Adapter`."""
        job = Job(step, now_ns, self._grace_ms, self._settled)
        refusal = self._refusal(step)
        if refusal:
            job.failed(refusal, now_ns)
            return
        self._jobs[step.id] = job
        work = self._start(job, now_ns)
        if job.open:
            job.work = work
        elif work is not None:
            work.end()

    def poll(self, now_ns: int) -> list[StepResult]:
        """Let every work go on, then give up those whose time is over; see `base.Adapter`."""
        polled: list[StepResult] = []
        self._polled = polled
        for job in tuple(self._jobs.values()):
            if job.open and job.work is not None:
                job.work.tick(now_ns)
            if now_ns >= job.give_up_ns:
                job.failed(self._unfinished(job), now_ns)
        self._polled = None
        return polled

    def close(self) -> None:
        """End every step under way; see `base.Adapter`."""
        self._closed = True
        for job in tuple(self._jobs.values()):
            job.failed("the adapter was closed", self._around.now_ns())

    @abstractmethod
    def _start(self, job: Job, now_ns: int) -> Work | None:
        """Begin the work of a step, or finish the job at once; None where nothing is left to tick or end."""

    def _unfinished(self, job: Job) -> str:
        return f"not finished {self._grace_ms} ms after its deadline of {job.step.deadline_ms} ms"

    def _refusal(self, step: Step) -> str:
        if self._closed:
            return "the adapter is closed"
        if not 1 <= len(step.id) <= MAX_ID:
            return f"its id must have 1 to {MAX_ID} characters"
        if not 1 <= step.deadline_ms <= MAX_DEADLINE_MS:
            return f"its deadline must be 1 to {MAX_DEADLINE_MS} ms"
        if step.id in self._jobs:
            return "a step with its id is under way"
        return f"{MAX_OPEN} steps are under way" if len(self._jobs) >= MAX_OPEN else ""

    def _settled(self, job: Job, result: StepResult) -> None:
        # State whole before anyone hears of it: whoever hears may begin the next step in this very call.
        if self._jobs.get(result.id) is job:
            del self._jobs[result.id]
        if job.work is not None:
            job.work.end()
        if self._polled is not None:
            self._polled.append(result)
        self._around.on_result(result)
