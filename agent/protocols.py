"""The response protocols of one channel (clause 5.5(d)): ordered steps that adapters carry out, recorded.

Begun after the permit, the outputs and the other module: nothing of a stop waits for a step. A protocol never
decides and never starts anything; its results are evidence.
"""

import time
from collections.abc import Mapping, Sequence

from agent.core.plan import Protocol
from agent.core.responses import Response
from agent.shell import Shell
from drivers.adapters.base import Outcome, Send, Step, StepResult, Surroundings
from drivers.adapters.link import LinkAdapter
from drivers.adapters.registry import build_adapter
from drivers.adapters.runner import Planned, Runner


class Protocols:
    """The protocols a channel runs, and the adapters they need."""

    def __init__(self, shell: Shell, send: Send | None = None) -> None:
        """`send`: the robot link, for the module that has it."""
        self._shell = shell
        self._mine = [row for row in shell.plan.protocols if row.channel == shell.name]
        self._number = 0
        self._runner = Runner(now_ns=time.monotonic_ns, on_step=self._step_told, on_end=self._ended)
        around = Surroundings(shell.loop, time.monotonic_ns, self._runner.told, send)
        self._link: LinkAdapter | None = None
        for name in sorted({step.adapter for row in self._mine for step in row.steps}):
            spec = shell.plan.adapters[name]
            adapter = build_adapter(name, spec.driver, spec.settings, around)
            self._runner.attach(name, adapter)
            if isinstance(adapter, LinkAdapter):
                self._link = adapter

    def begin(self, before: Response, now: Response, epoch: int, now_ns: int) -> None:
        """A stop began or grew worse: begins each protocol whose response is reached only now."""
        for row in self._mine:
            if before < row.response <= now:
                self._begin(row, epoch, now_ns)

    def tick(self, now_ns: int) -> None:
        """Once per tick: effects and deadlines."""
        self._runner.poll(now_ns)

    def robot_told(self, step_id: str, done: bool, detail: str, now_ns: int) -> bool:
        """The robot's `step_result`; False for a step that is not under way."""
        return self._link is not None and self._link.told(step_id, done, detail, now_ns)

    def robot_gone(self, now_ns: int) -> None:
        """Nobody is left to answer what was asked over the link."""
        if self._link is not None:
            self._link.gone(now_ns)

    def close(self) -> None:
        """Ends what is under way; idempotent."""
        self._runner.close()

    def _begin(self, row: Protocol, epoch: int, now_ns: int) -> None:
        self._number += 1
        name = f"{row.id}-{self._number}"
        steps = [
            Planned(step.adapter, Step(f"{name}.{n}", step.step, epoch, step.deadline_ms, step.args))
            for n, step in enumerate(row.steps, 1)
        ]
        self._shell.emit("protocol_begun", {"id": row.id, "run": name, "epoch": epoch, "steps": len(steps)})
        self._runner.run(name, steps, now_ns)

    def _step_told(self, run: str, result: StepResult) -> None:
        self._shell.meter.inc("protocol_steps_total", self._shell.name, result.outcome)
        body: Mapping[str, object] = {
            "run": run,
            "id": result.id,
            "outcome": result.outcome,
            "after_ms": result.after_ms,
            "detail": result.detail,
        }
        self._shell.emit("step_result", body)

    def _ended(self, run: str, results: Sequence[StepResult]) -> None:
        done = sum(result.outcome is Outcome.DONE for result in results)
        self._shell.emit("protocol_ended", {"run": run, "done": done, "steps": len(results)})
