"""What `verify` yields: findings, bounded lists of what an auditor asks for, full counts, and the verdict."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from agent.audit.findings import CLEAN, KINDS, PRECEDENCE, VERDICTS, Finding

MAX_LISTED: Final = 1000
"""Findings of one kind, or events of one kind, that a report lists; beyond that they are only counted."""
LISTED_EVENTS: Final = (
    *("boot", "clock.step", "loss", "incident", "hold", "delete", "service.end", "config", "maintenance"),
    *("disk.level", "seg.recover"),
)
"""Kinds of entries that a report lists with n, wall time and body."""
_SHOWN: Final = 20


@dataclass(slots=True)
class Witnessed:
    """How far the ledger is witnessed.

    `ledger`: file; `n`: the last witnessed entry, -1 for none; `by`: `record` (compared byte for byte),
    `token` (an acknowledgement whose signature was checked), `claim` (one whose was not, no key given) or "".
    `tail_entries`, `tail_records`: what came after it, which nobody but the robot itself vouches for.
    """

    ledger: str = ""
    n: int = -1
    by: str = ""
    tail_entries: int = 0
    tail_records: int = 0


@dataclass(slots=True)
class Report:
    """Everything found. `live`: a recorder holds the folder's lock; `bundle`: there is an export's manifest.

    `records`: in segments that are there; `records_deleted`: in those that were deleted. `head_n`,
    `head_hash`: the ledger's last entry.
    """

    folder: str
    live: bool = False
    bundle: bool = False
    robot: str = ""
    ledgers: list[str] = field(default_factory=list)
    entries: int = 0
    head_n: int = -1
    head_hash: str = ""
    segments: int = 0
    sealed: int = 0
    open: int = 0
    deleted: int = 0
    records: int = 0
    records_deleted: int = 0
    bytes: int = 0
    witnessed: Witnessed = field(default_factory=Witnessed)
    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    event_counts: dict[str, int] = field(default_factory=dict)

    def add(self, findings: Iterable[Finding]) -> None:
        """Counts them all and lists at most MAX_LISTED of a kind."""
        for finding in findings:
            count = self.counts[finding.kind] = self.counts.get(finding.kind, 0) + 1
            if count <= MAX_LISTED:
                self.findings.append(finding)

    def note(self, kind: str, event: dict[str, Any]) -> None:
        """An entry that an auditor asks for."""
        count = self.event_counts[kind] = self.event_counts.get(kind, 0) + 1
        if kind in LISTED_EVENTS and count <= MAX_LISTED:
            self.events.setdefault(kind, []).append(event)

    @property
    def exit_code(self) -> int:
        """0 clean, 1 explained anomalies, 2 tampering, 3 incomplete; 2 goes before 3, 3 before 1."""
        found = {KINDS[kind].verdict for kind in self.counts}
        return next((code for code in PRECEDENCE if code in found), CLEAN)

    def to_json(self) -> dict[str, object]:
        """All fields, `exit_code`, `verdict` and the findings' own verdicts; JSON-able."""
        findings = [{**asdict(row), "verdict": row.verdict} for row in self.findings]
        about = {**asdict(self), "findings": findings}
        return {**about, "exit_code": self.exit_code, "verdict": VERDICTS[self.exit_code]}

    def lines(self) -> Iterator[str]:
        """For people: what there is, how far it is witnessed, the worst findings first, the verdict."""
        yield f"{self.folder}: {self.robot or '?'}"
        yield (
            f"  ledger / 账本: {self.entries} entries, last {self.head_n}; "
            f"segments / 日志段: {self.segments} ({self.sealed} sealed, {self.open} open, "
            f"{self.deleted} deleted); records / 记录: {self.records}"
        )
        yield f"  {self._witness_line()}"
        worst = sorted(self.findings, key=lambda row: PRECEDENCE.index(row.verdict))
        yield from (f"  [{row.verdict}] {row.line()}" for row in worst[:_SHOWN])
        more = sum(self.counts.values()) - min(len(worst), _SHOWN)
        if more > 0:
            yield f"  … and {more} more / 另有 {more} 项"
        yield f"  {VERDICTS[self.exit_code]}"

    def _witness_line(self) -> str:
        seen = self.witnessed
        if seen.n < 0:
            return "witnessed / 见证: nothing / 无"
        return (
            f"witnessed / 见证: up to entry {seen.n} by {seen.by}; unwitnessed tail / 未见证部分: "
            f"{seen.tail_entries} entries, {seen.tail_records} records"
        )
