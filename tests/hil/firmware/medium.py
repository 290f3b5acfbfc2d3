"""A line that loses, repeats, flips, cuts and invents bytes, and delivers them in pieces and late. Seeded."""

import random
from collections import Counter, deque

MISDEEDS = ("lost", "repeated", "flipped", "cut", "noise")
SHARE = 0.06
"""Of all writes, for each misdeed: three in ten go wrong, so that the 50 ms of the agent are often near."""
LATE_MS = 2
LATE_SHARE = 0.1
"""Of all pieces, how many may be late, and by how much at most."""


class Medium:
    """One direction. `counts`: of every misdeed and way of delivering; `writes`: what was sent."""

    def __init__(self, chance: random.Random) -> None:
        self.counts: Counter[str] = Counter()
        self.writes = 0
        self._chance = chance
        self._pieces: deque[tuple[int, bytes]] = deque()
        self._arrives_ms = 0

    def send(self, data: bytes, ms: int) -> None:
        """Sets `data` on its way; what was sent before arrives before."""
        self.writes += 1
        draw = self._chance.random()
        if draw < SHARE * len(MISDEEDS):
            misdeed = MISDEEDS[int(draw / SHARE)]
            self.counts[misdeed] += 1
            data = self._spoil(misdeed, data)
        for piece in self._cut_up(data):
            late_ms = self._chance.randint(0, LATE_MS) if self._chance.random() < LATE_SHARE else 0
            self._arrives_ms = max(self._arrives_ms, ms + late_ms)
            self._pieces.append((self._arrives_ms, piece))

    def next_ms(self) -> int | None:
        """When something arrives."""
        return self._pieces[0][0] if self._pieces else None

    def arrived(self, ms: int) -> list[bytes]:
        """What has come by now, reading by reading."""
        pieces = []
        while self._pieces and self._pieces[0][0] <= ms:
            pieces.append(self._pieces.popleft()[1])
        return pieces

    def _spoil(self, misdeed: str, data: bytes) -> bytes:
        at = self._chance.randrange(len(data))
        if misdeed == "lost":
            return b""
        if misdeed == "repeated":
            return data * 2
        if misdeed == "noise":
            return self._chance.randbytes(at + 1) + data
        if misdeed == "cut":
            return data[:at] + data[at + self._chance.randint(1, 5) :]
        spoilt = bytearray(data)
        for _ in range(self._chance.randint(1, 4)):
            spoilt[self._chance.randrange(len(data))] ^= 1 << self._chance.randrange(8)
        return bytes(spoilt)

    def _cut_up(self, data: bytes) -> list[bytes]:
        draw = self._chance.random()
        if draw < 0.2:
            self.counts["one byte at a time"] += 1
            return [data[i : i + 1] for i in range(len(data))]
        if draw < 0.4:
            self.counts["in two pieces"] += 1
            at = self._chance.randint(0, len(data))
            return [piece for piece in (data[:at], data[at:]) if piece]
        return [data] if data else []
