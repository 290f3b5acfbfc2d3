"""Holds: spans of wall time of which no segment is deleted (LOG, "Retention")."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agent.errors import WardenError

FOR_EVER_NS: Final = 2**63 - 1
MAX_HOLDS: Final = 10_000
"""Placed by people and not released, together with those released; as many ids are remembered."""


class HoldError(WardenError):
    """A hold that cannot be placed or released. `id`: the hold's; `reason`: why, in words."""

    def __init__(self, hold_id: str, reason: str) -> None:
        super().__init__(f"hold {hold_id[:64]!a}: {reason}")
        self.id = hold_id
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Hold:
    """From `from_ns` to `to_ns`, both included, wall time.

    `until_ns`: when an incident's ends by itself; None for one that a person placed and must release.
    """

    id: str
    from_ns: int
    to_ns: int
    reason: str
    until_ns: int | None = None

    def touches(self, from_ns: int, to_ns: int) -> bool:
        """Whether a span overlaps this one, if only in a moment."""
        return self.from_ns <= to_ns and from_ns <= self.to_ns


class Holds:
    """What the ledger says is held. Memory: holds in force, and the ids of released ones."""

    def __init__(self, retention_ns: int) -> None:
        self._retention_ns = retention_ns
        self._placed: dict[str, Hold] = {}
        self._released: set[str] = set()
        self._doubt = ""
        self._incidents: dict[tuple[str, int], Hold] = {}

    @property
    def placed(self) -> tuple[Hold, ...]:
        """Those of people that were not released, oldest first."""
        return tuple(self._placed.values())

    def may_place(self, hold_id: str, from_ns: int, to_ns: int) -> None:
        """HoldError when not. An id serves once: an order that released it would release it again."""
        if hold_id in self._placed or hold_id in self._released:
            raise HoldError(hold_id, "this id was used before")
        if not 0 <= from_ns <= to_ns <= FOR_EVER_NS:
            raise HoldError(hold_id, "must end after it begins, and begin after 1970")
        if len(self._placed) + len(self._released) >= MAX_HOLDS:
            raise HoldError(hold_id, f"there are {MAX_HOLDS} already")

    def may_release(self, hold_id: str) -> None:
        """HoldError when there is no such hold."""
        if hold_id not in self._placed:
            raise HoldError(hold_id, "was released before" if hold_id in self._released else "there is none")

    def note_hold(self, body: Mapping[str, object]) -> None:
        """A `hold` entry. What cannot be read as a time holds without end: a doubt deletes nothing."""
        hold_id = str(body.get("id"))
        if "release" in body:
            self._placed.pop(hold_id, None)
            self._released.add(hold_id)
            return
        self._placed[hold_id] = Hold(hold_id, *_span(body), str(body.get("reason")))

    def note_incident(self, body: Mapping[str, object], n: int, wall_ns: int) -> None:
        """An `incident` entry of number `n`: its window is held for the retention time after it."""
        from_ns, to_ns = _span(body)
        over_ns = max(wall_ns, to_ns if to_ns < FOR_EVER_NS else 0) + self._retention_ns
        incident_id = str(body.get("id"))
        self._incidents[incident_id, n] = Hold(incident_id, from_ns, to_ns, "incident", over_ns)

    def doubt(self, n: int) -> None:
        """Entry `n` cannot be trusted and may have been a hold: everything is held until this is released.

        As long as one such is in force, more of them change nothing.
        """
        if self._doubt not in self._placed:
            self._doubt = f"damaged-{n}"
            reason = f"ledger entry {n} is damaged / 账本第 {n} 条已损坏"
            self._placed[self._doubt] = Hold(self._doubt, 0, FOR_EVER_NS, reason)

    def forget(self, now_ns: int) -> None:
        """Lets incidents go that are over by a time that may be trusted."""
        over = [key for key, hold in self._incidents.items() if (hold.until_ns or 0) <= now_ns]
        for key in over:
            del self._incidents[key]

    def over(self, from_ns: int, to_ns: int, now_ns: int) -> list[Hold]:
        """What holds this span at `now_ns`."""
        held = [hold for hold in self._placed.values() if hold.touches(from_ns, to_ns)]
        return held + [
            hold
            for hold in self._incidents.values()
            if hold.touches(from_ns, to_ns) and now_ns < (hold.until_ns or FOR_EVER_NS)
        ]


def _span(body: Mapping[str, object]) -> tuple[int, int]:
    from_ns, to_ns = body.get("from_ns"), body.get("to_ns")
    return from_ns if type(from_ns) is int else 0, to_ns if type(to_ns) is int else FOR_EVER_NS
