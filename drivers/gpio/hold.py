"""One request of lines while the program runs: what was seen of it, why it is away, when to try again."""

from dataclasses import dataclass
from typing import Final

from drivers.gpio.lines import Lines
from drivers.gpio.sight import MS, Sight

BACKOFF_FIRST_NS: Final = 100 * MS
BACKOFF_MOST_NS: Final = 2_000 * MS


@dataclass(slots=True, eq=False)
class Hold:
    """Lines and what is known of them. `away`: why they are not open; `failure`: why no level was read."""

    lines: Lines
    sight: Sight
    away: str = "not opened yet"
    failure: str = ""
    session: int = 0
    """One more at each request: whoever calls out looks afterwards whether it is still the same."""
    watched: bool = False
    retry_ns: int = 0
    _backoff_ns: int = BACKOFF_FIRST_NS

    def put_off(self, now_ns: int) -> None:
        """Set when the next attempt is due. A level, not a request, makes the waits short again."""
        self.retry_ns = now_ns + self._backoff_ns
        self._backoff_ns = min(2 * self._backoff_ns, BACKOFF_MOST_NS)

    def looked(self, levels: list[bool], now_ns: int) -> None:
        """The lines' levels were read."""
        self.sight.look(levels, now_ns)
        self.failure = ""
        self._backoff_ns = BACKOFF_FIRST_NS

    def is_known(self, stale_ns: int, now_ns: int) -> bool:
        """True while the last look is younger than `stale_ns`."""
        age_ns = self.sight.age_ns(now_ns)
        return age_ns is not None and age_ns < stale_ns

    def silence(self) -> str:
        """Why nothing is known, for people."""
        if self.away:
            return f"lines away: {self.away}"
        return f"level not read: {self.failure}" if self.failure else "level not looked at"
