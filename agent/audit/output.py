"""Decrypted records as text: JSON lines, or CSV that no spreadsheet takes for formulas."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

COLUMNS: Final = (
    *("stream", "segno", "frame", "n", "time", "wall_ns", "boottime_ns", "clock"),
    *("source", "boot", "seq", "kind", "duplicate", "body"),
)
"""`n`: the record's number in its stream; `time`: `wall_ns` in UTC; `duplicate`: this event came before."""
FORMATS: Final = ("jsonl", "csv")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCKS: Final = {"s": "synchronised", "u": "unsynchronised", "x": "unknown"}


class Place(NamedTuple):
    """Where a record was found."""

    stream: str
    segno: int
    frame: int
    n: int


Write = Callable[[Place, Mapping[str, Any], bool], bytes]
"""One record, and whether it is a duplicate, as bytes of the output."""


def jsonl(place: Place, record: Mapping[str, Any], duplicate: bool) -> bytes:
    """One line of JSON with the fields of COLUMNS."""
    text = json.dumps(dict(zip(COLUMNS, _row(place, record, duplicate), strict=True)), separators=(",", ":"))
    return text.encode() + b"\n"


def csv_row(place: Place, record: Mapping[str, Any], duplicate: bool) -> bytes:
    """One line of CSV; `body` is JSON in its cell."""
    row = _row(place, record, duplicate)
    body = json.dumps(row[-1], ensure_ascii=False, separators=(",", ":"))
    return _csv([*(_safe(cell) for cell in row[:-1]), body])


def csv_head() -> bytes:
    """The line with the columns' names."""
    return _csv(list(COLUMNS))


def _csv(cells: list[object]) -> bytes:
    line = io.StringIO(newline="")
    csv.writer(line).writerow(cells)
    return line.getvalue().encode("utf-8", "replace")


def _safe(cell: object) -> object:
    """A text that a spreadsheet would compute gets an apostrophe before it (OWASP, "CSV Injection")."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def _row(place: Place, record: Mapping[str, Any], duplicate: bool) -> tuple[object, ...]:
    return (
        *place,
        iso(record["w"]),
        record["w"],
        record["b"],
        _CLOCKS[record["c"]],
        record["s"],
        record["o"],
        record["q"],
        record["k"],
        duplicate,
        record["d"],
    )


def iso(wall_ns: int) -> str:
    """As in `2027-01-15T08:00:00.000000001Z`."""
    return f"{_second(wall_ns // 1_000_000_000)}.{wall_ns % 1_000_000_000:09}Z"


@lru_cache(maxsize=16)
def _second(second: int) -> str:
    # 2^63 ns are in the year 2262: no date is out of range.
    return (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")
