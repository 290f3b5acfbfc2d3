"""What the simulated robot makes of its permits, its orders and its agent's messages. Pure: no I/O, no clock.

It obeys only the permit (PROTOCOL 1). A message can end its work, never begin or allow it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hil.plane import Body, Drive, Patrol
from sdk.python.robot_warden import Verdict

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000

_NOTHING_TO_END = ("announce", "stop_generation", "stop_transmission", "eliminate")
_DEFAULT_DEADLINE_MS = 1000
# Full to empty in ten hours on the move: enough to be seen changing, never empty in a test.
_BATTERY_PCT_PER_S = 100 / 36_000


class Work(NamedTuple):
    """One order and the epoch it was given in; it is good for no other."""

    task: str
    epoch: int


class StepResult(NamedTuple):
    """An answer for `RobotLink.step_result`."""

    id: str
    ok: bool
    detail: str


class _PendingStop(NamedTuple):
    id: str
    deadline_ns: int


NOT_PERMITTED = Verdict(may_move=False, may_power=False, speed_permille=0, epoch=0, response=5)
"""Before the agent's welcome has named the permits."""


@dataclass(slots=True)
class Pilot:
    """One robot's mind. `auto_work`: orders itself fresh work whenever it is permitted to run anew."""

    body: Body = field(default_factory=Body)
    patrol: Patrol = field(default_factory=Patrol)
    auto_work: bool = False
    disobedient: bool = False
    """Runs whatever the permits say: the fault that `not_still` is there to find."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Telemetry that lies: each key replaces the true value, None leaves it out."""
    verdict: Verdict = NOT_PERMITTED
    work: Work | None = None
    dropped: int = 0
    """Orders dropped because a new epoch began or a step said stop."""
    standstill_ns: int | None = None
    """CLOCK_MONOTONIC when the speed became exactly 0; None on the move."""
    results: list[StepResult] = field(default_factory=list)
    """Answers to steps, to be sent and cleared by the shell."""
    _last_ns: int | None = None
    _permitted_epoch: int | None = None
    _stops: list[_PendingStop] = field(default_factory=list)
    _battery_pct: float = 100.0

    @property
    def moving(self) -> bool:
        """False only when the speed is exactly 0."""
        return self.body.speed_mps > 0

    def order(self, task: str, epoch: int) -> bool:
        """Takes work, given in `epoch`; False, and nothing is taken, in any other epoch than the present."""
        if epoch != self.verdict.epoch:
            return False
        self.work = Work(task, epoch)
        return True

    def take_step(self, message: Mapping[str, Any], now_ns: int) -> None:
        """A `step` of the agent (PROTOCOL 2); its answer comes to `results`, for a stop when it is done."""
        step, id_ = str(message.get("step")), str(message.get("id"))
        if step == "stop_motion":
            self._drop()
            self._stops.append(_PendingStop(id_, now_ns + _deadline_ns(message)))
        elif step in _NOTHING_TO_END:
            self.results.append(StepResult(id_, True, "nothing to end"))
        else:
            self.results.append(StepResult(id_, False, f"unknown step {step}"))

    def cycle(self, now_ns: int, verdict: Verdict) -> None:
        """One turn of the control loop. `now_ns`: CLOCK_MONOTONIC. `verdict`: what the permits say now."""
        self.verdict = verdict
        if self.work is not None and verdict.epoch > self.work.epoch:
            self._drop()
        self._order_fresh_work()
        self._drive((now_ns - self._last_ns) / NS_PER_S if self._last_ns is not None else 0.0)
        self._last_ns = now_ns
        self._watch_standstill(now_ns)
        self._answer_stops(now_ns)

    def telemetry(self) -> dict[str, Any]:
        """What a beat carries: flat, of numbers, strings and booleans (PROTOCOL 2)."""
        told = {
            "speed_mps": self.body.speed_mps,
            "x_m": self.body.x_m,
            "y_m": self.body.y_m,
            "task": self.work.task if self.work else "",
            "battery_pct": self._battery_pct,
            "still": not self.moving,
        }
        told.update(self.overrides)
        return {key: value for key, value in told.items() if value is not None}

    def account(self) -> dict[str, Any]:
        """The robot's own account of itself, which no override touches."""
        return {
            "x_m": self.body.x_m,
            "y_m": self.body.y_m,
            "speed_mps": self.body.speed_mps,
            "moving": self.moving,
            "standstill_ns": self.standstill_ns,
            "may_move": self.verdict.may_move,
            "may_power": self.verdict.may_power,
            "speed_permille": self.verdict.speed_permille,
            "epoch": self.verdict.epoch,
            "response": self.verdict.response,
            "task": self.work.task if self.work else "",
            "work_epoch": self.work.epoch if self.work else None,
            "dropped": self.dropped,
        }

    def _drop(self) -> None:
        self.dropped += self.work is not None
        self.work = None

    def _order_fresh_work(self) -> None:
        permitted_epoch = self.verdict.epoch if self.verdict.may_move else None
        anew = permitted_epoch not in (None, self._permitted_epoch)
        if self.auto_work and anew and self.work is None:
            self.order("patrol", self.verdict.epoch)
        self._permitted_epoch = permitted_epoch

    def _drive(self, dt_s: float) -> None:
        drive = self._wanted_drive()
        permille = 1000 if self.disobedient else self.verdict.speed_permille
        target = self.patrol.target(self.body.x_m, self.body.y_m)
        self.body.step(dt_s, drive, target, permille)
        self._battery_pct = max(0.0, self._battery_pct - self.moving * dt_s * _BATTERY_PCT_PER_S)

    def _wanted_drive(self) -> Drive:
        if self.disobedient:
            return Drive.RUN
        if not self.verdict.may_power:
            return Drive.BRAKE
        working = self.work is not None and self.work.epoch == self.verdict.epoch
        return Drive.RUN if self.verdict.may_move and working else Drive.HALT

    def _watch_standstill(self, now_ns: int) -> None:
        if self.moving:
            self.standstill_ns = None
        elif self.standstill_ns is None:
            self.standstill_ns = now_ns

    def _answer_stops(self, now_ns: int) -> None:
        if not self.moving:
            self.results += [StepResult(stop.id, True, "standstill") for stop in self._stops]
            self._stops.clear()
            return
        detail = f"still moving at {self.body.speed_mps:.2f} m/s"
        late = [stop for stop in self._stops if now_ns >= stop.deadline_ns]
        self.results += [StepResult(stop.id, False, detail) for stop in late]
        self._stops = [stop for stop in self._stops if now_ns < stop.deadline_ns]


def _deadline_ns(message: Mapping[str, Any]) -> int:
    given = message.get("deadline_ms")
    return (given if isinstance(given, int) else _DEFAULT_DEADLINE_MS) * NS_PER_MS
