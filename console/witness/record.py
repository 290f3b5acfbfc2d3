"""The witness itself: what it takes, answers and alarms. No network; clocks are given.

In memory is, per robot, the head, three times and a few counts: about a kilobyte.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from agent.logformat.suites import SuiteError
from console.witness.alarms import EVERY_S, Alarms
from console.witness.entry import Entry, Head, Misfit, head_of, is_signed_by, line_hash, misfit, read_entry
from console.witness.errors import EntryError, WitnessStateError
from console.witness.notices import Kind, Notice
from console.witness.store import Store, may_be_kept

MAX_ROBOTS: Final = 10_000
SILENCE_S: Final = 900.0
"""Three of the checkpoints that every ledger has each 300 s."""
GAP_EVERY_S: Final = 1.0
"""A robot that runs ahead sends up to 32 entries in a row; one answer says where to continue."""
MAX_EXCERPT: Final = 4_096
"""Bytes kept of what is no entry."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is answered: line n has this hash. `n` -1 and `hash` "" ask for everything."""

    robot: str
    n: int
    hash: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one packet led to."""

    receipt: Receipt | None = None
    notices: tuple[Notice, ...] = ()


@dataclass(slots=True)
class Robot:
    """What is known of one robot. Times are of the forward clock; `size`: bytes of its file of lines."""

    head: Head | None = None
    size: int = 0
    since_s: float = 0.0
    silent: bool = False
    torn: bool = False
    """An append failed: what of it stands in the file is cut off before the next one."""
    trouble: str = ""
    """Why it is not followed at all; "" when it is."""
    gap_at_s: float = float("-inf")


class Witness:
    """Of any number of robots; with `robots`, of these alone."""

    def __init__(
        self,
        store: Store,
        *,
        robots: Iterable[str] = (),
        genesis: Mapping[str, bytes] | None = None,
        silence_s: float = SILENCE_S,
        max_robots: int = MAX_ROBOTS,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`genesis`: robot id -> its registered line. `clock`: seconds, only forward; `wall`: since 1970."""
        self.robots: dict[str, Robot] = {}
        self.alarms = Alarms(store, clock, wall)
        self.not_kept = 0
        """Entries that the disk did not take; they are not answered, and come again."""
        self._store = store
        self._only = frozenset(robots)
        self._genesis = dict(genesis or {})
        self._silence_s = silence_s
        self._max_robots = max_robots
        self._clock = clock
        self._wall = wall
        self._gaps: OrderedDict[str, float] = OrderedDict()

    # ---- beginning

    def begin(self) -> list[Notice]:
        """Reads what is kept; what is to be said of it."""
        known = {*self._store.robots(), *self._only, *self._genesis}
        wanted = sorted(known & self._only if self._only else known)
        return [notice for robot_id in wanted[: self._max_robots] for notice in self._begin(robot_id)]

    def _begin(self, robot_id: str) -> tuple[Notice, ...]:
        robot = self._follow(robot_id)
        try:
            first = self._load(robot_id, robot)
        except OSError as error:
            robot.trouble = f"cannot be read: {error.strerror}"
        if robot.trouble:
            return self.alarms.raised(Notice(Kind.DAMAGED, robot_id, reason=robot.trouble))
        registered = self._genesis.get(robot_id)
        if first is None or registered in (None, first):
            return ()
        robot.trouble = "genesis_differs"
        evidence = {"ours": _text(first), "theirs": _text(registered or b"")}
        return self.alarms.raised(Notice(Kind.FORK, robot_id, 0, "genesis_differs", evidence=evidence))

    def _follow(self, robot_id: str) -> Robot:
        self.alarms.follow(robot_id)
        robot = self.robots[robot_id] = Robot(since_s=self._clock())
        return robot

    def _load(self, robot_id: str, robot: Robot) -> bytes | None:
        """Takes what the files hold; the first line, or None."""
        try:
            kept = self._store.load(robot_id)
        except WitnessStateError as error:
            robot.trouble = str(error)
            return None
        if kept is None:
            return None
        robot.head, robot.size = kept.head, kept.bytes
        robot.since_s = self._clock() - max(0.0, self._wall() - kept.since_s)
        return kept.first

    def wall_of(self, then_s: float) -> float:
        """Seconds since 1970 of a moment of the forward clock."""
        return self._wall() - (self._clock() - then_s)

    def free_ratio(self) -> float:
        """The share of its disk that is free."""
        return self._store.free_ratio()

    # ---- what robots say

    def announce(self) -> Iterator[Receipt]:
        """Where each robot is to continue."""
        for robot_id, robot in self.robots.items():
            if not robot.trouble:
                yield _continue(robot_id, robot.head)

    def take(self, robot_id: str, line: bytes) -> Outcome:
        """One packet that came under a robot's name. When a receipt is returned, the line is on the disk."""
        if (self._only and robot_id not in self._only) or not may_be_kept(robot_id):
            return Outcome()
        robot = self.robots.get(robot_id)
        if robot is not None and robot.trouble:
            return Outcome()
        try:
            entry = read_entry(line)
        except EntryError as error:
            return self._refuse(robot_id, Kind.MALFORMED, error.reason, line)
        if entry.robot != robot_id:
            return self._refuse(robot_id, Kind.FOREIGN, entry.robot, line)
        try:
            return self._judge(robot_id, robot, entry, line)
        except SuiteError as error:
            return self._refuse(robot_id, Kind.UNJUDGED, error.reason, line)
        except OSError as error:
            self.not_kept += 1
            if robot_id in self.robots:
                self.robots[robot_id].torn = True
            reason = error.strerror or type(error).__name__
            notice = Notice(Kind.NOT_KEPT, robot_id, entry.n, reason)
            minute = str(int(self._clock() // EVERY_S))
            return Outcome(None, self.alarms.mentioned(notice, robot_id, reason, minute))

    def _judge(self, robot_id: str, robot: Robot | None, entry: Entry, line: bytes) -> Outcome:
        if robot is not None and robot.torn:
            self._store.cut(robot_id, robot.size)
            robot.torn = False
        if robot is None or robot.head is None:
            return self._first(robot_id, robot, entry, line)
        if entry.n > robot.head.n + 1:
            return self._gap(robot_id, robot)
        if entry.n <= robot.head.n:
            return self._again(robot_id, robot, entry, line)
        wrong = misfit(robot.head, entry)
        if wrong is None:
            return self._keep(robot_id, robot, entry, line)
        if wrong is Misfit.SUITE_MISSING:
            return self._refuse(robot_id, Kind.UNJUDGED, wrong.value, line)
        proven = wrong is not Misfit.SIGNATURE and is_signed_by(entry, robot.head.next_pk)
        ours = self._store.line_at(robot_id, robot.head.n, robot.size) or b""
        told = self._fork(robot_id, entry.n, wrong.value, (ours, line), proven=proven)
        return replace(told, receipt=self._sometimes(robot, _continue(robot_id, robot.head)))

    def _first(self, robot_id: str, robot: Robot | None, entry: Entry, line: bytes) -> Outcome:
        if entry.n != 0:
            return self._gap(robot_id, robot)
        registered = self._genesis.get(robot_id)
        if registered is not None and registered != line:
            return self._fork(robot_id, 0, "genesis_differs", (registered, line), proven=False)
        wrong = misfit(None, entry)
        if wrong is not None:
            kind = Kind.UNJUDGED if wrong is Misfit.SUITE_MISSING else Kind.MALFORMED
            return self._refuse(robot_id, kind, wrong.value, line)
        if robot is None:
            if len(self.robots) >= self._max_robots:
                return Outcome(None, self.alarms.mentioned(Notice(Kind.TOO_MANY, robot_id), "too many"))
            robot = self._follow(robot_id)
        taken = self._keep(robot_id, robot, entry, line)
        first = () if registered is not None else (Notice(Kind.FIRST_USE, robot_id, 0),)
        return replace(taken, notices=(*first, *taken.notices))

    def _keep(self, robot_id: str, robot: Robot, entry: Entry, line: bytes) -> Outcome:
        """Written and synced, then and only then in memory, and answered."""
        head = head_of(line, entry)
        self._store.append(robot_id, line, robot.size)
        now_s = self._clock()
        lasted_s, was_silent = now_s - robot.since_s, robot.silent
        robot.head, robot.size, robot.since_s, robot.silent = head, robot.size + len(line) + 1, now_s, False
        notices: tuple[Notice, ...] = (Notice(Kind.TAKEN, robot_id, entry.n, entry_kind=entry.kind),)
        if was_silent:
            notices += self.alarms.kept(Notice(Kind.BACK, robot_id, entry.n, seconds=lasted_s))
        return Outcome(Receipt(robot_id, head.n, head.hash), notices)

    def _again(self, robot_id: str, robot: Robot, entry: Entry, line: bytes) -> Outcome:
        """A number that was taken before: the same line is acknowledged again, another one is a fork."""
        ours = self._store.line_at(robot_id, entry.n, robot.size)
        if ours is None:
            robot.trouble = f"line {entry.n} is missing"
            notice = Notice(Kind.DAMAGED, robot_id, entry.n, robot.trouble)
            return Outcome(None, self.alarms.raised(notice))
        if ours == line:
            return Outcome(Receipt(robot_id, entry.n, line_hash(line, entry.next_pk)))
        mine = read_entry(ours)
        key = mine.pk or self._key_of(robot_id, robot, entry.n)
        proven = key is not None and is_signed_by(entry, key)
        reason = "second_genesis" if entry.n == 0 else "other_entry"
        told = self._fork(robot_id, entry.n, reason, (ours, line), proven=proven)
        # What we have under this number, signed: a robot that was set back can find out by it.
        receipt = Receipt(robot_id, entry.n, line_hash(ours, mine.next_pk))
        return replace(told, receipt=self._sometimes(robot, receipt))

    def _key_of(self, robot_id: str, robot: Robot, n: int) -> bytes | None:
        """The key that signed our line n, which is no genesis."""
        before = self._store.line_at(robot_id, n - 1, robot.size)
        return None if before is None else read_entry(before).next_pk

    def _gap(self, robot_id: str, robot: Robot | None) -> Outcome:
        """Where to continue."""
        if robot is not None:
            return Outcome(self._sometimes(robot, _continue(robot_id, robot.head)))
        now_s = self._clock()
        if now_s - self._gaps.get(robot_id, float("-inf")) < GAP_EVERY_S:
            return Outcome()
        self._gaps[robot_id] = now_s
        self._gaps.move_to_end(robot_id)
        if len(self._gaps) > self._max_robots:
            self._gaps.popitem(last=False)
        return Outcome(_continue(robot_id, None))

    def _sometimes(self, robot: Robot, receipt: Receipt) -> Receipt | None:
        """The receipt, or None when another of its kind was given a moment ago."""
        now_s = self._clock()
        if now_s - robot.gap_at_s < GAP_EVERY_S:
            return None
        robot.gap_at_s = now_s
        return receipt

    # ---- silence and alarms

    def tick(self, connected_since_s: float | None) -> list[Notice]:
        """New silences. `connected_since_s`: by the forward clock; None while nobody could be heard."""
        if connected_since_s is None:
            return []
        now_s = self._clock()
        notices: list[Notice] = []
        for robot_id, robot in self.robots.items():
            quiet_s = now_s - max(robot.since_s, connected_since_s)
            if quiet_s > self._silence_s and not robot.silent and not robot.trouble:
                robot.silent = True
                n = -1 if robot.head is None else robot.head.n
                notice = Notice(Kind.SILENT, robot_id, n, seconds=now_s - robot.since_s)
                notices += self.alarms.kept(notice)
        return notices

    def _refuse(self, robot_id: str, kind: Kind, reason: str, line: bytes) -> Outcome:
        evidence = {"theirs": _text(line[:MAX_EXCERPT])}
        return Outcome(None, self.alarms.raised(Notice(kind, robot_id, reason=reason, evidence=evidence)))

    def _fork(
        self, robot_id: str, n: int, reason: str, lines: tuple[bytes, bytes], *, proven: bool
    ) -> Outcome:
        evidence = {"ours": _text(lines[0]), "theirs": _text(lines[1])}
        return Outcome(
            None, self.alarms.raised(Notice(Kind.FORK, robot_id, n, reason, proven, evidence=evidence))
        )


def _continue(robot_id: str, head: Head | None) -> Receipt:
    return Receipt(robot_id, -1, "") if head is None else Receipt(robot_id, head.n, head.hash)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace")
