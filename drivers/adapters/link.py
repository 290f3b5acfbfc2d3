"""`link`: a step asked of the robot's own software over the robot link (PROTOCOL 2, `step`, `step_result`).

The robot's word is all there is: what it says it did is done. Whether it stands still is observed elsewhere
(`not_still`), and a robot that lies or dies is stopped by its permits.
"""

from collections.abc import Mapping

from drivers.adapters.base import Step, Surroundings
from drivers.adapters.keeper import Job, StepKeeper


class LinkAdapter(StepKeeper):
    """Steps over the link; the module that holds it hands on what the robot answers."""

    def __init__(self, name: str, settings: Mapping[str, object], around: Surroundings) -> None:
        super().__init__(name, around, int(str(settings["grace_ms"])))

    def told(self, step_id: str, ok: bool, detail: str, now_ns: int) -> bool:
        """The robot's `step_result`; False when no step of that id is under way here."""
        job = self._jobs.get(step_id)
        if job is None:
            return False
        if ok:
            job.done(detail or "the robot says so", now_ns)
        else:
            job.failed(detail or "the robot says it failed", now_ns)
        return True

    def gone(self, now_ns: int) -> None:
        """The robot's connection ended: nobody is left to answer what was asked."""
        for job in tuple(self._jobs.values()):
            job.failed("the robot's connection ended", now_ns)

    def _start(self, job: Job, now_ns: int) -> None:
        if self._around.send is None:
            job.failed("this module has no robot link", now_ns)
        elif not self._around.send(_message(job.step)):
            job.failed("no robot is connected, or it does not read", now_ns)


def _message(step: Step) -> dict[str, object]:
    return {
        "type": "step",
        "id": step.id,
        "step": step.step,
        "epoch": step.epoch,
        "deadline_ms": step.deadline_ms,
        "args": dict(step.args),
    }
