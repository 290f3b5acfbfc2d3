"""Decrypted records as text: JSON lines, or CSV that no spreadsheet takes for formulas."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from agent.audit.rows import Row

Line = tuple[int, bool, Row]
"""A record's number in its stream, whether it is a duplicate, and its fields."""
Place = tuple[str, int, int]
"""What a frame's records have in common: stream, segno, frame."""

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
    """One format. `head`: before the first record; `lines`: those of one frame."""

    head: bytes
    lines: Callable[[Place, Iterable[Line]], bytes]


def _json_lines(place: Place, lines: Iterable[Line]) -> bytes:
    """Lines of JSON with the fields of COLUMNS; spelled out, because json.dumps takes longer."""
    stream, segno, frame = place
    begin = f'{{"stream":"{stream}","segno":{segno},"frame":{frame},"n":'
    return "".join(
        [
            f'{begin}{n},"time":"{_second(w[:-9])}.{w[-9:]:0>9}Z","wall_ns":{w},"boottime_ns":{b},'
            f'"clock":"{_CLOCKS[c]}","source":{_text(s)},"boot":"{o}","seq":{q},"kind":{_text(k)},'
            f'"duplicate":{"true" if duplicate else "false"},"body":{body}}}\n'
            for n, duplicate, (w, b, c, s, o, q, k, body) in lines
        ]
    ).encode()


@lru_cache(maxsize=1024)
def _text(text: str) -> str:
    return json.dumps(text)


def _csv_lines(place: Place, lines: Iterable[Line]) -> bytes:
    """Lines of CSV; `body` is JSON in its cell."""
    return _csv(
        (*place, n, iso(int(w)), w, b, _CLOCKS[c], _safe(s), o, q, _safe(k), duplicate, body)
        for n, duplicate, (w, b, c, s, o, q, k, body) in lines
    )


def _csv(rows: Iterable[tuple[object, ...]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "replace")


def _safe(cell: str) -> str:
    """A text that a spreadsheet would compute gets an apostrophe before it (OWASP, "CSV Injection")."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def iso(wall_ns: int) -> str:
    """As in `2027-01-15T08:00:00.000000001Z`."""
    second, ns = divmod(wall_ns, 1_000_000_000)
    return f"{_second(str(second))}.{ns:09}Z"


@lru_cache(maxsize=16)
def _second(digits: str) -> str:
    """`digits`: seconds since 1970; none for less than one."""
    minute, second = divmod(int(digits or 0), 60)
    return f"{_minute(minute)}:{second:02}"


@lru_cache(maxsize=16)
def _minute(minute: int) -> str:
    # 2^63 ns are in the year 2262: no date is out of range.
    return (_EPOCH + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M")


WRITERS: Final[Mapping[str, Writer]] = {
    "jsonl": Writer(b"", _json_lines),
    "csv": Writer(_csv([COLUMNS]), _csv_lines),
}
