"""Whose turn it is on one line. Pure: time is an argument.

Each question costs the line up to its time-out, so those that are not answered could use up the time of those
that are. Two rules keep them apart: what was not answered waits twice as long before each further try, up to
a second; and after such a try that is not answered either, everybody else who is due gets a turn before the
next. So the silent ones cost each of the others at most one time-out in each round, however many they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MS: Final = 1_000_000

EARLY_NS: Final = 5 * MS
"""Half a tick: one that comes a little early must not put a poll off to the next."""
WAIT_MOST_NS: Final = 1_000 * MS


@dataclass(slots=True)
class Turn:
    """One register's place in the rota. `misses`: tries in a row without an answer, 1 before the first."""

    poll_ns: int
    due_ns: int = 0
    misses: int = 1

    @property
    def wait_ns(self) -> int:
        """From one try to the next."""
        doublings = min(max(self.misses - 1, 0), 16)
        return max(self.poll_ns, min(self.poll_ns << doublings, WAIT_MOST_NS))


class Rota:
    """The turns of one line; `next` names one by its place in the sequence."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = turns
        self._since_miss = len(turns)

    def next(self, now_ns: int) -> int | None:
        """The place of whoever is due and has waited longest; None when nobody is."""
        due = [place for place, turn in enumerate(self._turns) if turn.due_ns <= now_ns]
        steady = [place for place in due if self._turns[place].misses == 0]
        doubtful = [place for place in due if self._turns[place].misses > 0]
        chosen = doubtful if doubtful and self._doubtful_may(steady) else steady
        if not chosen:
            return None
        self._since_miss = 0 if chosen is doubtful else self._since_miss + 1
        return min(chosen, key=lambda place: self._turns[place].due_ns)

    def asked(self, place: int, now_ns: int) -> None:
        """Its question is out; the next one is due as if it were not answered."""
        turn = self._turns[place]
        turn.due_ns = now_ns + turn.wait_ns - EARLY_NS

    def answered(self, place: int) -> None:
        """The unit has answered, with a value or with a refusal."""
        turn = self._turns[place]
        turn.due_ns += turn.poll_ns - turn.wait_ns
        if turn.misses:  # it cost no more than anybody's turn
            self._since_miss = len(self._turns)
        turn.misses = 0

    def missed(self, place: int) -> None:
        """No answer, or none that is one."""
        self._turns[place].misses += 1

    def again(self, place: int, now_ns: int) -> None:
        """Its turn was used for a probe that was answered: due at once, after all who are due already."""
        self._turns[place].due_ns = now_ns

    def _doubtful_may(self, steady: Sequence[int]) -> bool:
        everybody = sum(turn.misses == 0 for turn in self._turns)
        return not steady or self._since_miss >= everybody
