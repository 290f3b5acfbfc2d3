"""The same event twice: (source, boot of its process, seq) seen before (README, "Record").

A sender that hears no acknowledgement sends again, so the second may come long after the first.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final

Run = tuple[str, str, int, int]
"""Source, boot, first seq, last seq."""
_BITS: Final = 4096
MAX_BLOCKS: Final = 65_536
"""Of 4,096 seqs each: exact over 268 million events of one sender. Beyond, the block unused the longest is
forgotten; some 50 MB at most."""


class Seen:
    """One bit for each seq; what comes in order is kept as a run until the order breaks.

    `keep_runs`: for `runs`, which takes memory for each gap.
    """

    def __init__(self, *, keep_runs: bool = False) -> None:
        self._keep = keep_runs
        self._blocks: OrderedDict[tuple[str, str, int], int] = OrderedDict()
        self._open: dict[tuple[str, str], list[int]] = {}
        self._highest: dict[tuple[str, str], int] = {}
        self._closed: list[Run] = []

    def add(self, source: str, boot: str, seq: int) -> bool:
        """True when it had been seen before."""
        place = (source, boot)
        run = self._open.get(place)
        if run is not None and seq == run[1] + 1 and seq > self._highest[place]:
            self._highest[place] = run[1] = seq
            return False
        return self._out_of_order(place, seq)

    def _out_of_order(self, place: tuple[str, str], seq: int) -> bool:
        run = self._open.pop(place, None)
        if run is not None:
            self._close((*place, run[0], run[1]))
        if seq <= self._highest.get(place, -1) and self.meets([(*place, seq, seq)]):
            return True
        self._open[place] = [seq, seq]
        self._highest[place] = max(seq, self._highest.get(place, -1))
        return False

    def _close(self, run: Run) -> None:
        if self._keep:
            self._closed.append(run)
        self._mark(run)

    def runs(self) -> list[Run]:
        """Everything seen, where it was kept."""
        return [*self._closed, *((*place, run[0], run[1]) for place, run in self._open.items())]

    def meets(self, runs: Iterable[Run]) -> bool:
        """True when one of the runs holds a seq that had been seen before."""
        for place in list(self._open):
            self._settle(place)
        return any(self._blocks.get(place, 0) & mask for run in runs for place, mask in _masks(run))

    def _settle(self, place: tuple[str, str]) -> None:
        run = self._open.pop(place)
        self._close((*place, run[0], run[1]))

    def add_runs(self, runs: Iterable[Run]) -> None:
        """All of them."""
        for run in runs:
            self._mark(run)
            place = run[:2]
            self._highest[place] = max(run[3], self._highest.get(place, -1))

    def _mark(self, run: Run) -> None:
        for place, mask in _masks(run):
            self._blocks[place] = self._blocks.get(place, 0) | mask
            self._blocks.move_to_end(place)
            if len(self._blocks) > MAX_BLOCKS:
                self._blocks.popitem(last=False)


def _masks(run: Run) -> Iterator[tuple[tuple[str, str, int], int]]:
    source, boot, first, last = run
    for block in range(first // _BITS, last // _BITS + 1):
        low, high = max(first - block * _BITS, 0), min(last - block * _BITS, _BITS - 1)
        yield (source, boot, block), ((1 << (high - low + 1)) - 1) << low
