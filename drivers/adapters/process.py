"""`process`: freeze, thaw, stop or kill the robot's software on this machine, by signals to pidfds.

    freeze  SIGSTOP; done when no thread of any process runs
    thaw    SIGCONT; done when none is stopped
    stop    SIGTERM, at the deadline as kill; done when none is left
    kill    SIGSTOP until all stand, then SIGKILL; done when none is left

The whole target is meant: process group and descendants, or control group, and whatever they begin
meanwhile. A process whose identity is not certain is never signalled. What is frozen stays frozen under
`stop` and is ended by its SIGKILL at the deadline: nothing lets it run once more.

Rights: the same user as the target, or CAP_KILL, and CAP_SYS_PTRACE to read another user's program by
`exe`; with a control group CAP_KILL is enough.
"""

import pwd
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from drivers.adapters.base import MS, Surroundings
from drivers.adapters.family import MAX_ROUNDS, Family
from drivers.adapters.keeper import Job, StepKeeper
from drivers.adapters.kin import CgroupKin, Kin, PidFileKin, ProgramKin
from drivers.base import DriverError

FIRST_PAUSE_MS: Final = 10
LAST_PAUSE_MS: Final = 100
"""Between looks, doubling: a look costs some milliseconds of one core, and most effects come at once."""
MAX_AT_ONCE: Final = MAX_ROUNDS
"""Looks without a pause while new processes turn up; one that begins others for ever must not take a core."""


@dataclass(frozen=True, slots=True)
class Action:
    """One row of the table above."""

    number: int
    """The signal."""
    effect: Callable[[Family], bool]
    """True when the last look shows that it worked on everyone."""
    gone_is_done: bool
    """True: a target that is not running at all is just what was asked for."""
    killed_at_deadline: bool = False
    """True: who is left at the deadline is killed."""


def _none_left(family: Family) -> bool:
    return len(family) == 0


def _all_stopped(family: Family) -> bool:
    return family.stopped == len(family) > 0


def _none_stopped(family: Family) -> bool:
    return family.stopped == 0 < len(family)


ACTIONS: Mapping[str, Action] = {
    "freeze": Action(signal.SIGSTOP, _all_stopped, gone_is_done=False),
    "thaw": Action(signal.SIGCONT, _none_stopped, gone_is_done=False),
    "stop": Action(signal.SIGTERM, _none_left, gone_is_done=True, killed_at_deadline=True),
    "kill": Action(signal.SIGKILL, _none_left, gone_is_done=True),
}


class ProcessAdapter(StepKeeper):
    """Steps carried out on one target; `args.action` says which."""

    def __init__(self, name: str, settings: Mapping[str, object], around: Surroundings) -> None:
        """Raises DriverError when the plan's user is not known on this machine."""
        super().__init__(name, around, int(str(settings["grace_ms"])))
        self._settings = settings
        self._uid = _uid(settings["user"])

    def _start(self, job: Job, now_ns: int) -> "_ProcessWork | None":
        action = ACTIONS.get(str(job.step.args.get("action")))
        if action is None:
            job.failed(f"args.action must be one of {', '.join(ACTIONS)}", now_ns)
            return None
        return _ProcessWork(job, action, Family(self._around.loop, self._kin()), self._around)

    def _kin(self) -> Kin:
        """Found anew for each step: the robot's software may have been started again since."""
        path = str(self._settings["path"])
        match self._settings["find"]:
            case "cgroup":
                return CgroupKin(path)
            case "exe":
                return ProgramKin(path, self._uid)
            case _:
                exe, newer_ok = str(self._settings["exe"]), bool(self._settings["newer_ok"])
                return PidFileKin(path, exe, self._uid, newer_ok=newer_ok)


class _ProcessWork:
    """One action on one target: look, signal whoever is new, look again, until a look shows the effect."""

    def __init__(self, job: Job, action: Action, family: Family, around: Surroundings) -> None:
        self._job = job
        self._action = action
        self._family = family
        self._now_ns = around.now_ns
        self._most = 0
        self._pause_ms = FIRST_PAUSE_MS
        self._at_once = 0
        self._next_look_ns = 0
        self._killing = action.number == signal.SIGKILL
        family.look(self._looked)

    def tick(self, now_ns: int) -> None:
        """Whoever is left at the deadline is killed; otherwise look again when it is time."""
        if self._action.killed_at_deadline and now_ns >= self._job.deadline_ns and not self._killing:
            self._killing = True
            self._next_look_ns = now_ns
        if now_ns >= self._next_look_ns:
            self._look_again()

    def end(self) -> None:
        """Nobody is signalled or watched any more."""
        self._family.close()

    def _look_again(self) -> None:
        if self._job.open and not self._family.looking:
            self._family.look(self._looked)

    def _looked(self) -> None:
        now_ns = self._now_ns()
        if self._family.trouble:
            self._job.failed(self._family.trouble, now_ns)
            return
        self._most = max(self._most, len(self._family))
        if self._most == 0:
            self._nobody(now_ns)
            return
        told, refused = self._signal()
        if refused:
            self._job.failed(f"not permitted to signal {refused} of {len(self._family)} processes", now_ns)
        elif told == 0 and self._action.effect(self._family):
            self._effect_seen(now_ns)
        elif len(self._family) == 0:
            self._job.failed("it ended meanwhile", now_ns)
        else:
            self._wait(told, now_ns)

    def _signal(self) -> tuple[int, int]:
        return self._family.end_all() if self._killing else self._family.signal(self._action.number)

    def _nobody(self, now_ns: int) -> None:
        if self._family.unsure:
            self._job.failed(self._doubt(), now_ns)
        elif self._action.gone_is_done:
            self._job.done("nothing of it was running", now_ns)
        else:
            self._job.failed("no such process", now_ns)

    def _effect_seen(self, now_ns: int) -> None:
        words = f"{self._most} process{'es' if self._most > 1 else ''}"
        if self._killing and self._action.killed_at_deadline:
            words += ", SIGKILL was needed"
        if self._family.unsure:
            self._job.failed(f"{words}; {self._doubt()}", now_ns)
        else:
            self._job.done(words, now_ns)

    def _doubt(self) -> str:
        count = self._family.unsure
        return f"what {count} processes of that user run may not be read (same user or CAP_SYS_PTRACE)"

    def _wait(self, told: int, now_ns: int) -> None:
        """Those just told are looked at again at once; whoever takes longer, less and less often."""
        if self._action.effect is _all_stopped:
            self._family.insist(self._action.number)
        elif self._action.effect is _none_left:
            self._family.watch(self._look_again)
        if told and self._at_once < MAX_AT_ONCE:
            self._at_once += 1
            self._look_again()
            return
        self._at_once = 0
        self._next_look_ns = now_ns + self._pause_ms * MS
        self._pause_ms = min(2 * self._pause_ms, LAST_PAUSE_MS)


def _uid(user: object) -> int:
    """Raises DriverError for a name that this machine does not know; -1 where the settings name nobody."""
    if user is None:
        return -1
    text = str(user)
    if text.isdigit():
        return int(text)
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise DriverError("process", "", f"is given a user that is not known here: {text!r}") from None
