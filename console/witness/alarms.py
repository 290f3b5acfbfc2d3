"""Alarms, kept and told at a bounded rate: a flood must neither fill the disk nor hide what counts."""

import hashlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from console.witness.notices import Notice
from console.witness.store import Store

BURST: Final = 10
"""Alarms at once."""
EVERY_S: Final = 60.0
"""And one more each minute after that."""
REMEMBERED: Final = 16
"""Alarms told lately; the same one is not told again while it is among them."""


class Rate:
    """Of one robot. Proven alarms and the others are counted apart, so that noise crowds out no proof."""

    __slots__ = ("_left", "_left_out", "_since_s", "_told")

    def __init__(self, now_s: float) -> None:
        """Times are of a clock that only goes forward."""
        self._left = {True: float(BURST), False: float(BURST)}
        self._since_s = {True: now_s, False: now_s}
        self._left_out = 0
        self._told: deque[bytes] = deque(maxlen=REMEMBERED)

    def admit(self, what: bytes, now_s: float, *, proven: bool = False) -> int | None:
        """None: not to be told. Else how many were left out since the last one told. `what`: names it."""
        if what in self._told:
            return None
        grown = self._left[proven] + (now_s - self._since_s[proven]) / EVERY_S
        self._left[proven], self._since_s[proven] = min(float(BURST), grown), now_s
        if self._left[proven] < 1:
            self._left_out += 1
            return None
        self._left[proven] -= 1
        self._told.append(what)
        left_out, self._left_out = self._left_out, 0
        return left_out


class Alarms:
    """Of all robots of one witness.

    `counts`: alarms of each robot that is followed, by code, earlier ones too; `not_kept`: those among them
    that no disk took since this start.
    """

    def __init__(self, store: Store, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        """`clock`: seconds that only go forward; `wall`: since 1970."""
        self.counts: dict[str, Counter[str]] = {}
        self.not_kept = 0
        self._store = store
        self._clock = clock
        self._wall = wall
        self._rates: dict[str, Rate] = {}
        self._strangers = Rate(clock())

    def follow(self, robot_id: str) -> None:
        """From now on this robot's alarms are kept: its files are there, or may be made."""
        self.counts[robot_id] = self._store.alarms(robot_id)

    def raised(self, notice: Notice) -> tuple[Notice, ...]:
        """The notice as it is to be told, kept if its robot is followed; nothing when there are too many."""
        words = (notice.kind.value.code, notice.robot, notice.reason, str(notice.n))
        evidence = notice.evidence.get("theirs", "")
        if notice.robot not in self.counts:
            return self.mentioned(notice, *words, evidence)
        rate = self._rates.setdefault(notice.robot, Rate(self._clock()))
        left_out = rate.admit(_digest(*words, evidence), self._clock(), proven=notice.proven)
        return () if left_out is None else self.kept(replace(notice, left_out=left_out))

    def mentioned(self, notice: Notice, *what: str) -> tuple[Notice, ...]:
        """Told and not kept: of robots that are not followed, and of what no disk takes."""
        left_out = self._strangers.admit(_digest(*what), self._clock())
        return () if left_out is None else (replace(notice, left_out=left_out),)

    def kept(self, notice: Notice) -> tuple[Notice, ...]:
        """Written down, whatever the rate."""
        self.counts[notice.robot][notice.kind.value.code] += 1
        row: dict[str, object] = {
            "time": round(self._wall(), 3),
            "robot": notice.robot,
            "alarm": notice.kind.value.code,
            "n": notice.n,
            "reason": notice.reason,
            "proven": notice.proven,
            "left_out": notice.left_out,
            "seconds": round(notice.seconds, 3),
            **notice.evidence,
        }
        try:
            kept = self._store.keep_alarm(notice.robot, row)
        except OSError:
            kept = False
        self.not_kept += not kept
        return (replace(notice, kept=kept),)


def _digest(*words: str) -> bytes:
    return hashlib.sha256("\n".join(words).encode("utf-8", "replace")).digest()
