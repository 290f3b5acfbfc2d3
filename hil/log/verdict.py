"""What verify says of a robot's half year, and how large that was."""

import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.audit import Report, decrypt, verify
from agent.logformat.layout import LEDGER_FILE
from hil.log.robot import Robot, Span, Written
from hil.log.specimen import segments_of

DAYS = 190
DAY_S = 86_400
MB, GB = 1e6, 1e9


@dataclass(frozen=True, slots=True)
class Verdict:
    """One span. Bytes; `verify_s`: seconds; `read`: records that the recipient's key opened."""

    span: Span
    written: Written
    total_s: float
    code: int
    records: int
    deleted: int
    kinds: dict[str, int]
    segments: dict[str, int]
    segment_bytes: int
    ledger_bytes: int
    verify_s: float
    read: int
    decrypt_s: float

    @property
    def good(self) -> bool:
        """Clean, everything there but what was deleted, and that accounted for."""
        told = self.records + self.deleted_records
        return self.code == 0 and told == self.written.records and self.read == self.records

    @property
    def deleted_records(self) -> int:
        """In segments that are gone; their seals say how many."""
        return self.deleted

    @property
    def title(self) -> str:
        """Of its column."""
        hours = self.span.seconds / 3600
        length = f"{hours:g} h" if hours < 72 else f"{hours / 24:g} d"
        rate = "每秒都写 every second" if self.span.scale == 1 else f"1/{self.span.scale}"
        return f"{length}, {rate}"

    def rows(self) -> dict[str, str]:
        """For people."""
        return {**self._size_rows(), **self._deletion_rows(), **self._reading_rows()}

    def _size_rows(self) -> dict[str, str]:
        written, ledger = self.written, self.ledger_bytes
        kept = self.segment_bytes + written.deleted_bytes
        days = self.span.seconds / DAY_S
        ahead = [size / days * DAYS / GB for size in (kept + ledger, ledger)]
        full = f"{ahead[0]:.2f} GB, of it ledger {ahead[1]:.2f} GB" if self.span.scale == 1 else "–"
        return {
            "记录 records written": f"{written.records:,}",
            "写入 writing": f"{written.write_s:,.0f} s, {written.records / written.write_s:,.0f} records/s",
            "每条 bytes per record": f"{kept / max(1, written.records):.1f} B",
            "日志段 segments": ", ".join(f"{name} {n:,}" for name, n in self.segments.items()),
            "段文件 segment files": f"{self.segment_bytes / MB:,.1f} MB",
            "账本 ledger": f"{written.entries:,} entries, {ledger / MB:,.1f} MB",
            "每天 a day as written": f"{(kept + ledger) / days / MB:,.2f} MB",
            "190 天全速 190 days at full rate*": full,
        }

    def _deletion_rows(self) -> dict[str, str]:
        written = self.written
        size = f"{written.deleted_bytes / MB:,.1f} MB, {self.deleted_records:,} records"
        return {
            "过早的删除 order too early": ", ".join(written.early) or "–",
            "按指令删除 deleted by order": f"{written.deleted} segments, {size}",
        }

    def _reading_rows(self) -> dict[str, str]:
        rate = (self.segment_bytes + self.ledger_bytes) / MB / self.verify_s
        opened = f"{self.segment_bytes / MB / self.decrypt_s:,.1f} MB/s"
        ahead = self.verify_s / self.span.seconds * DAY_S * DAYS / 60
        return {
            "核验 verify": f"exit {self.code}, {self.verify_s:.1f} s, {rate:,.0f} MB/s",
            "核验 190 天 verify 190 days at full rate*": f"{ahead:.0f} min" if self.span.scale == 1 else "–",
            "逐帧解开 every frame opened": f"{self.read:,} records, {self.decrypt_s:.1f} s, {opened}",
        }

    def as_dict(self) -> dict[str, object]:
        """For machines: all that was measured, and the rows."""
        return {**asdict(self), "good": self.good, "rows": self.rows()}


def verify_span(robot: Robot, written: Written, total_s: float) -> Verdict:
    """Verified with genesis, witness and every key, then every frame opened; raises AuditError, OSError.

    Nothing is written of what is opened: half a year at full rate is 70 GB of lines.
    """
    begun_s = time.monotonic()
    report: Report = verify(
        robot.folder,
        genesis=robot.genesis,
        witness=robot.lines,
        order_keys=robot.department.keys,
        witness_keys=robot.witness.keys,
    )
    verify_s = time.monotonic() - begun_s
    begun_s = time.monotonic()
    read = decrypt(robot.folder, [robot.owner.key], out=None).records
    decrypt_s = time.monotonic() - begun_s
    paths = segments_of(robot.folder)
    return Verdict(
        robot.span,
        written,
        total_s,
        report.exit_code,
        report.records,
        report.records_deleted,
        dict(report.counts),
        dict(Counter(path.parent.name for path in paths)),
        sum(map(_size, paths)),
        _size(robot.folder / LEDGER_FILE),
        verify_s,
        read,
        decrypt_s,
    )


def _size(path: Path) -> int:
    return path.stat().st_size
