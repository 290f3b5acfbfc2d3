"""What may be deleted, and when: the rules of LOG, "Retention", over what the ledger says.

A segment may go when every rule lets it, each by itself enough to keep it:

* it is sealed, and the order names it by its seal;
* it is past its time, and past its time after the end of service where service has ended, by the local clock
  *and* by a witness's: a clock that jumps, forward or back, deletes nothing;
* no hold is on it, of an incident or a person;
* it is not of `safety` while the robot is in service.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from agent.errors import WardenError
from agent.recorder.log import LogError
from agent.recorder.receipts import read_receipt
from agent.recorder.sealed.catalogue import Catalogue, S, ledger_lines
from agent.recorder.sealed.deletion import Graves
from agent.recorder.sealed.disk import Disk
from agent.recorder.sealed.ends import set_aside
from agent.recorder.sealed.holds import FOR_EVER_NS, Hold, Holds
from agent.recorder.sealed.ledger import Entry, Ledger
from agent.recorder.sealed.orders import Named, Office
from agent.tokens import TokenError

DAY_NS: Final = 86_400 * S
MIN_DAYS: Final = 190
"""Six months are up to 184 days (LOG)."""

TEXTS: Final[Mapping[str, tuple[str, str]]] = {
    "unknown": (
        "账本中没有此编号和封印的已封存分段，或已被删除",
        "the ledger has no sealed segment of this number and seal, or it was deleted",
    ),
    "in_service": ("服役期间不得删除安全日志", "safety is never deleted while the robot is in service"),
    "too_young": ("按本机时钟须保存至 {until}", "is kept until {until} by the local clock"),
    "no_witness": ("尚无经验证的见证时间", "no verified witness has said what time it is"),
    "not_witnessed": (
        "须保存至 {until}，而最新见证时间为 {witness}",
        "is kept until {until}, and the newest witness time is {witness}",
    ),
    "held": ("被保留令 {id} 保留：{reason}", "hold {id} is on it: {reason}"),
    "incident": ("事件 {id} 使其保留至 {until}", "incident {id} holds it until {until}"),
    "damaged": (
        "文件缺失或损坏，无法留下其头部与封印",
        "the file is missing or damaged: its header and seal could not stay",
    ),
}
"""Code → why a segment stays, Chinese and English."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one segment stays."""

    named: Named
    code: str
    zh: str
    en: str


class RefusedError(WardenError):
    """An order that is good and cannot be carried out now. `refusals`: every reason for every segment."""

    def __init__(self, refusals: Iterable[Refusal]) -> None:
        self.refusals = tuple(refusals)
        rows = (f"{row.named.stream}/{row.named.segno}: {row.en} / {row.zh}" for row in self.refusals)
        super().__init__("; ".join(rows))


class Retention:
    """Knows what is kept and why, and deletes. One for a log, beside its `Ledger`; it needs no wiring to it.

    `office`: who may order; `witnesses`: who may say the time, kid → Ed25519 public key. Both are replaced
    when the trust file or the settings change.
    """

    def __init__(
        self,
        folder: Path,
        ledger: Ledger,
        *,
        office: Office,
        witnesses: Mapping[str, bytes],
        days: int,
        wall_ns: Callable[[], int],
        disk: Disk | None = None,
    ) -> None:
        """Reads the ledgers of the folder once, those set aside too. LogError when they cannot be read."""
        if days < MIN_DAYS:
            raise ValueError(f"{days} days, at least {MIN_DAYS}")
        self.office = office
        self.witnesses = witnesses
        self._retention_ns = days * DAY_NS
        self._known = Catalogue(self._retention_ns)
        self._folder = folder
        self._ledger = ledger
        self._wall_ns = wall_ns
        self._disk = disk or Disk()
        try:
            for path in set_aside(folder):
                self._known.begin()
                for line in ledger_lines(path):
                    self._known.read(line)
        except OSError as error:
            raise LogError(folder, f"not read: {error.strerror}", error.errno or 0) from error
        self._known.begin()
        self.catch_up()

    def observe(self, entry: Entry) -> None:
        """A durable entry, as `Ledger.on_entry` gives it: cheaper than reading it back in `catch_up`."""
        if entry.n == self._known.n + 1:
            self._known.observe(entry)

    def catch_up(self) -> None:
        """Reads what the ledger holds beyond what is known; every question begins with it. LogError."""
        if self._known.n < self._ledger.head.n:
            for _, line in self._ledger.entries_after(self._known.n, sys.maxsize):
                self._known.read(line)

    # ---- the rules

    @property
    def holds(self) -> Holds:
        """In force as far as is known: `catch_up` first."""
        return self._known.holds

    @property
    def in_service(self) -> bool:
        """Until the ledger says that service has ended."""
        self.catch_up()
        return not self._known.service_end_ns

    def witness_ns(self) -> int:
        """The newest time, ns since 1970, of the receipts whose signature holds; 0 for none."""
        self.catch_up()
        return max((self._verified(body) for body in self._known.receipts.values()), default=0)

    def _verified(self, body: Mapping[str, Any]) -> int:
        try:
            receipt = read_receipt(str(body["token"]), robot_id=self.office.robot, keys=self.witnesses)
        except (TokenError, KeyError):
            return 0
        return receipt.witness_time * S if receipt.body() == body else 0

    def review(self, segments: Iterable[Named]) -> list[Refusal]:
        """Every reason against every one of them, by the rules alone; empty when all may go."""
        self.catch_up()
        now_ns, witness_ns = self._wall_ns(), self.witness_ns()
        return [
            _refusal(named, code, words)
            for named in segments
            for code, words in self._reasons(named, now_ns, witness_ns)
        ]

    def _reasons(self, named: Named, now_ns: int, witness_ns: int) -> Iterator[tuple[str, dict[str, str]]]:
        segment = self._known.segments.get((named.stream, named.segno))
        if segment is None or not segment.seal or segment.seal != named.seal:
            yield "unknown", {}
            return
        if named.stream == "safety" and self.in_service:
            yield "in_service", {}
        ended_ns = max(segment.to_ns, segment.witness_ns, self._known.service_end_ns)
        yield from _too_young(ended_ns + self._retention_ns, now_ns, witness_ns)
        for hold in self.holds.over(segment.from_ns, segment.to_ns, min(now_ns, witness_ns)):
            yield _held(hold)

    def deletable(self) -> list[Named]:
        """Sealed segments that no rule keeps now, by stream and number: what an order may name."""
        self.catch_up()
        known = (Named(*key, segment.seal) for key, segment in sorted(self._known.segments.items()))
        now_ns, witness_ns = self._wall_ns(), self.witness_ns()
        return [named for named in known if not any(self._reasons(named, now_ns, witness_ns))]

    def span(self, named: Named) -> tuple[int, int]:
        """First and last wall time that the records of a segment may have; KeyError for one not known."""
        segment = self._known.segments[named.stream, named.segno]
        return segment.from_ns, segment.to_ns

    # ---- doing it

    def delete(self, token: str) -> tuple[Named, ...]:
        """Carries out an order whole, or not at all; the segments that are gone.

        OrderError: no good order. RefusedError: some of it must stay. LogError: not written and nothing is
        deleted, or, once the ledger holds the deletion, not finished: `finish` goes on with it, at the next
        start or before the next order is looked at, be it the same again.
        """
        order = self.office.read(token, "delete")
        self.finish()
        self.holds.forget(min(self._wall_ns(), self.witness_ns()))
        refusals = self.review(order.segments) or self._damaged(order.segments)
        if refusals:
            raise RefusedError(refusals)
        rows = [named.as_dict() for named in order.segments]
        self._ledger.append("delete", {"order": token, "segments": rows})
        self.catch_up()
        self._bury()
        return order.segments

    def _damaged(self, segments: Iterable[Named]) -> list[Refusal]:
        with Graves(self._folder, self._disk) as graves:
            return [_refusal(named, "damaged", {}) for named in segments if not graves.readable(named)]

    def finish(self) -> tuple[Named, ...]:
        """Goes on with every deletion that the ledger holds, and yields those that are not finished.

        At each start, before the folder's SealedLog is made: the sooner the better. That the disk refuses is
        no reason not to start: what has a tombstone no longer counts as a segment, what has none is whole.
        LogError: the ledger cannot be read.
        """
        self.catch_up()
        with suppress(LogError):
            self._bury()
        return tuple(self._known.deleting.values())

    def _bury(self) -> None:
        """Each by itself: none waits for one that the disk refuses, whose LogError comes at the end."""
        deleting, done, refused = self._known.deleting, [], None
        if not deleting:
            return
        with Graves(self._folder, self._disk) as graves:
            for key, named in deleting.items():
                try:
                    if graves.bury(named):
                        done.append(key)
                except OSError as error:
                    refused = refused or error
            graves.sync()
            for key in done:
                del deleting[key]
            if refused is not None:
                raise refused

    def hold(self, hold_id: str, from_ns: int, to_ns: int, reason: str) -> None:
        """Places a hold on a span of wall time. HoldError; LogError: not known to be written, try again."""
        self.catch_up()
        self.holds.may_place(hold_id, from_ns, to_ns)
        body = {"id": hold_id, "from_ns": from_ns, "to_ns": to_ns, "reason": reason}
        self._ledger.append("hold", body)

    def release(self, token: str) -> str:
        """Ends a hold by the department's order; its id. OrderError, HoldError, LogError."""
        order = self.office.read(token, "release")
        self.catch_up()
        self.holds.may_release(order.hold)
        self._ledger.append("hold", {"id": order.hold, "release": token})
        return order.hold


def _too_young(until_ns: int, now_ns: int, witness_ns: int) -> Iterator[tuple[str, dict[str, str]]]:
    """By each of the two clocks: neither alone is believed."""
    if now_ns < until_ns:
        yield "too_young", {"until": _date(until_ns)}
    if not witness_ns:
        yield "no_witness", {}
    elif witness_ns < until_ns:
        yield "not_witnessed", {"until": _date(until_ns), "witness": _date(witness_ns)}


def _held(hold: Hold) -> tuple[str, dict[str, str]]:
    if hold.until_ns is None:
        return "held", {"id": hold.id, "reason": hold.reason}
    return "incident", {"id": hold.id, "until": _date(hold.until_ns)}


def _refusal(named: Named, code: str, words: Mapping[str, str]) -> Refusal:
    zh, en = TEXTS[code]
    return Refusal(named, code, zh.format(**words), en.format(**words))


def _date(ns: int) -> str:
    """In UTC; every time that 64 bits of nanoseconds hold is before 2263."""
    return datetime.fromtimestamp(min(ns, FOR_EVER_NS) // S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
