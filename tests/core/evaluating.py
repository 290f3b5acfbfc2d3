"""A plan's evaluation turn by turn, with a clock that the test turns."""

from agent.core.causes import MS
from agent.core.evaluate import Memory, Observations, Verdict, evaluate, remember
from agent.core.plan import Plan
from agent.core.readings import Reading
from tests.core.factories import CLOSED, FAR, NOW_NS, TIMES, seen, small_plan


class Turns:
    """From the start on; `readings` are what the devices say."""

    def __init__(self, plan: Plan | None = None, *, latched: frozenset[str] = frozenset()) -> None:
        self.plan = plan or small_plan()
        self.now_ns = NOW_NS
        self.memory: Memory = remember(self.plan, latched, NOW_NS)
        self.readings: dict[str, Reading] = {"estop": CLOSED, "range": FAR}

    def turn(self, *, after_ms: float = 0, **changes: object) -> Verdict:
        self.now_ns += round(after_ms * MS)
        return self.see(seen(self.now_ns, **{"readings": self.readings, **changes}))

    def see(self, observed: Observations) -> Verdict:
        self.memory, verdict = evaluate(self.plan, self.memory, observed, self.now_ns)
        return verdict

    def settled(self) -> "Turns":
        """Past the start's grace, contacts closed for their debounce, everything well."""
        self.turn()
        assert self.turn(after_ms=TIMES.start_grace_ns / MS).active == {}
        return self


def keys(verdict: Verdict) -> set[str]:
    return set(verdict.active)
