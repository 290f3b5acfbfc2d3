"""The same event twice: (source, boot of its process, seq) seen before (README, "Record").

A sender that hears no acknowledgement sends again, so the second may come long after the first.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

Run = tuple[str, str, int, int]
"""Source, boot, first seq, last seq."""
_BITS: Final = 4096
MAX_BLOCKS: Final = 65_536
"""Of 4,096 seqs each: exact over 268 million events of one sender. Beyond, the block unused the longest is
forgotten; some 50 MB at most."""


class Seen:
    """One bit for each seq."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[tuple[str, str, int], int] = OrderedDict()

    def add(self, source: str, boot: str, seq: int) -> bool:
        """True when it had been seen before."""
        place, bit = (source, boot, seq // _BITS), 1 << seq % _BITS
        before = self._blocks.get(place, 0)
        self._put(place, before | bit)
        return bool(before & bit)

    def meets(self, runs: list[Run]) -> bool:
        """True when one of the runs holds a seq that had been seen before."""
        return any(self._blocks.get(place, 0) & mask for run in runs for place, mask in _masks(run))

    def add_runs(self, runs: list[Run]) -> None:
        """All of them."""
        for run in runs:
            for place, mask in _masks(run):
                self._put(place, self._blocks.get(place, 0) | mask)

    def _put(self, place: tuple[str, str, int], bits: int) -> None:
        self._blocks[place] = bits
        self._blocks.move_to_end(place)
        if len(self._blocks) > MAX_BLOCKS:
            self._blocks.popitem(last=False)


def _masks(run: Run) -> Iterator[tuple[tuple[str, str, int], int]]:
    source, boot, first, last = run
    for block in range(first // _BITS, last // _BITS + 1):
        low, high = max(first - block * _BITS, 0), min(last - block * _BITS, _BITS - 1)
        yield (source, boot, block), ((1 << (high - low + 1)) - 1) << low


class Runs:
    """Collects seqs as runs, in the order in which they come."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], tuple[int, int]] = {}
        self._closed: list[Run] = []

    def add(self, source: str, boot: str, seq: int) -> None:
        """One more."""
        place = (source, boot)
        first, last = self._open.get(place, (seq, seq - 1))
        if seq != last + 1:
            self._closed.append((source, boot, first, last))
            first = seq
        self._open[place] = (first, seq)

    def all(self) -> list[Run]:
        """The runs."""
        return self._closed + [(*place, *run) for place, run in self._open.items()]
