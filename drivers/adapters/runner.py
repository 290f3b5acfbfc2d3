"""A protocol carried out: its steps in order, each by its adapter, none waiting longer than it must.

A step begins when the one before it has its result, or at that one's deadline, whichever is first: what
fails, hangs or is late never keeps the next step from being tried. Each deadline counts from its own
step's begin. The runner does not decide either: which protocol is run, and when, is the module's word.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from drivers.adapters.base import MS, Adapter, Outcome, Step, StepResult

MAX_RUNS: Final = 8
"""Protocols under way: one for each response that stops, and some; what comes above is refused and said."""
MAX_STEPS: Final = 32
"""Steps in one protocol."""
UNANSWERED_MS: Final = 15_000
"""After a deadline. Longer than any adapter's `grace_ms`: only an adapter that broke its word gets here."""

NO_ANSWER: Final = "its adapter never gave a result"


class Planned(NamedTuple):
    """One step and the plan's name of the adapter that carries it out."""

    adapter: str
    step: Step


OnStep: TypeAlias = Callable[[str, StepResult], None]
"""(name of the run, result), as each becomes known."""
OnEnd: TypeAlias = Callable[[str, Sequence[StepResult]], None]
"""(name of the run, all results in the order of its steps), once."""


class _Run:
    """One protocol under way."""

    def __init__(self, name: str, protocol: Sequence[Planned]) -> None:
        self.name = name
        self.protocol = tuple(protocol)
        self.results: list[StepResult | None] = [None] * len(protocol)
        self.begun_ns: list[int] = []

    @property
    def over(self) -> bool:
        return all(self.results)

    def may_begin(self, now_ns: int) -> bool:
        """True when the next step's turn has come."""
        begun = len(self.begun_ns)
        if begun == len(self.protocol):
            return False
        return begun == 0 or self.results[begun - 1] is not None or now_ns >= self.deadline_ns(begun - 1)

    def deadline_ns(self, index: int) -> int:
        return self.begun_ns[index] + self.protocol[index].step.deadline_ms * MS


class Runner:
    """Carries out protocols. Adapters are given `told` as their `on_result`, then attached by name."""

    def __init__(self, *, now_ns: Callable[[], int], on_step: OnStep, on_end: OnEnd) -> None:
        self._now_ns = now_ns
        self._on_step = on_step
        self._on_end = on_end
        self._adapters: dict[str, Adapter] = {}
        self._runs: list[_Run] = []
        self._waiting: dict[str, tuple[_Run, int]] = {}
        self._closed = False

    def attach(self, name: str, adapter: Adapter) -> None:
        """Steps that name `name` go to `adapter` from now on."""
        self._adapters[name] = adapter

    def run(self, name: str, protocol: Sequence[Planned], now_ns: int) -> None:
        """Begin a protocol beside those that are under way. Never blocks; every step gets a result."""
        run = _Run(name, protocol)
        refusal = self._refusal(protocol)
        self._runs.append(run)
        if refusal:
            self._fail_the_rest(run, refusal, now_ns)
        self._advance(run, now_ns)

    def told(self, result: StepResult) -> None:
        """An adapter's result. One that nobody waits for (any more) is dropped."""
        waiting = self._waiting.pop(result.id, None)
        if waiting is None:
            return
        run, index = waiting
        self._settle(run, index, result)
        self._advance(run, self._now_ns())

    def poll(self, now_ns: int) -> None:
        """Every 10 ms: the adapters go on, deadlines are judged, and what is due begins."""
        for adapter in tuple(self._adapters.values()):
            adapter.poll(now_ns)
        for run, index in tuple(self._waiting.values()):
            if now_ns >= run.deadline_ns(index) + UNANSWERED_MS * MS:
                self.told(self._failure(run, index, NO_ANSWER, now_ns))
        for run in tuple(self._runs):
            self._advance(run, now_ns)

    def close(self) -> None:
        """Close the adapters; every step under way or still to come is reported as failed. Idempotent."""
        if self._closed:
            return
        self._closed = True
        now_ns = self._now_ns()
        for run in tuple(self._runs):
            self._fail_the_rest(run, "the runner was closed", now_ns)
        for adapter in tuple(self._adapters.values()):
            adapter.close()
        for run, index in tuple(self._waiting.values()):
            self.told(self._failure(run, index, NO_ANSWER, now_ns))

    @property
    def busy(self) -> bool:
        """True while a protocol is under way."""
        return bool(self._runs)

    def _refusal(self, protocol: Sequence[Planned]) -> str:
        if self._closed:
            return "the runner is closed"
        if len(self._runs) >= MAX_RUNS:
            return f"{MAX_RUNS} protocols are under way"
        return f"a protocol has at most {MAX_STEPS} steps" if len(protocol) > MAX_STEPS else ""

    def _advance(self, run: _Run, now_ns: int) -> None:
        """Begin what is due. A result from within a `begin` comes here again, at most MAX_STEPS deep."""
        while run.may_begin(now_ns):
            self._begin(run, now_ns)
        if run.over and run in self._runs:
            self._runs.remove(run)
            self._on_end(run.name, [result for result in run.results if result is not None])

    def _begin(self, run: _Run, now_ns: int) -> None:
        index = len(run.begun_ns)
        run.begun_ns.append(now_ns)
        planned = run.protocol[index]
        adapter = self._adapters.get(planned.adapter)
        if adapter is None or planned.step.id in self._waiting:
            reason = "a step with its id is under way" if adapter else f"no adapter {planned.adapter!r}"
            self._settle(run, index, self._failure(run, index, reason, now_ns))
            return
        self._waiting[planned.step.id] = (run, index)
        adapter.begin(planned.step, now_ns)

    def _fail_the_rest(self, run: _Run, reason: str, now_ns: int) -> None:
        """Everything that has not begun is failed without being tried."""
        while len(run.begun_ns) < len(run.protocol):
            run.begun_ns.append(now_ns)
            index = len(run.begun_ns) - 1
            self._settle(run, index, self._failure(run, index, reason, now_ns))

    def _settle(self, run: _Run, index: int, result: StepResult) -> None:
        run.results[index] = result
        self._on_step(run.name, result)

    @staticmethod
    def _failure(run: _Run, index: int, reason: str, now_ns: int) -> StepResult:
        after_ms = (now_ns - run.begun_ns[index]) // MS
        return StepResult(run.protocol[index].step.id, Outcome.FAILED, after_ms, reason)
