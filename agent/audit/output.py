"""Decrypted records as text: JSON lines, or CSV that no spreadsheet takes for formulas."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from agent.audit.frames import Record

COLUMNS: Final = (
    *("stream", "segno", "frame", "n", "time", "wall_ns", "boottime_ns", "clock"),
    *("source", "boot", "seq", "kind", "duplicate", "body"),
)
"""`n`: the record's number in its stream; `time`: `wall_ns` in UTC; `duplicate`: this event came before."""
FORMATS: Final = ("jsonl", "csv")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCKS: Final = {"s": "synchronised", "u": "unsynchronised", "x": "unknown"}


class Writer(NamedTuple):
    """One format. `head`: before the first record; `place`: what a frame's records have in common."""

    head: bytes
    place: Callable[[str, int, int], str]
    record: Callable[[str, int, Record, bool], bytes]
    """`place`, number in the stream, record, and whether it is a duplicate."""


def _json_place(stream: str, segno: int, frame: int) -> str:
    return f'{{"stream":"{stream}","segno":{segno},"frame":{frame},"n":'


def _json_record(place: str, n: int, record: Record, duplicate: bool) -> bytes:
    """One line of JSON with the fields of COLUMNS; spelled out, because json.dumps takes longer."""
    return (
        f'{place}{n},"time":"{iso(record.w)}","wall_ns":{record.w},"boottime_ns":{record.b},'
        f'"clock":"{_CLOCKS[record.c]}","source":{_text(record.s)},"boot":"{record.o}",'
        f'"seq":{record.q},"kind":{_text(record.k)},"duplicate":{"true" if duplicate else "false"},'
        f'"body":{record.body}}}\n'
    ).encode()


@lru_cache(maxsize=1024)
def _text(text: str) -> str:
    return json.dumps(text)


def _csv_place(stream: str, segno: int, frame: int) -> str:
    return f"{stream},{segno},{frame},"


def _csv_record(place: str, n: int, record: Record, duplicate: bool) -> bytes:
    """One line of CSV; `body` is JSON in its cell."""
    cells = (
        n,
        iso(record.w),
        record.w,
        record.b,
        _CLOCKS[record.c],
        _safe(record.s),
        record.o,
        record.q,
        _safe(record.k),
        duplicate,
        record.body,
    )
    return place.encode() + _csv(cells)


def _csv(cells: tuple[object, ...]) -> bytes:
    line = io.StringIO(newline="")
    csv.writer(line).writerow(cells)
    return line.getvalue().encode("utf-8", "replace")


def _safe(cell: str) -> str:
    """A text that a spreadsheet would compute gets an apostrophe before it (OWASP, "CSV Injection")."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def iso(wall_ns: int) -> str:
    """As in `2027-01-15T08:00:00.000000001Z`."""
    second, ns = divmod(wall_ns, 1_000_000_000)
    return f"{_second(second)}.{ns:09}Z"


@lru_cache(maxsize=16)
def _second(second: int) -> str:
    # 2^63 ns are in the year 2262: no date is out of range.
    return (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")


WRITERS: Final[Mapping[str, Writer]] = {
    "jsonl": Writer(b"", _json_place, _json_record),
    "csv": Writer(_csv(COLUMNS), _csv_place, _csv_record),
}
