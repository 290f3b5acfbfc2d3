"""What became of a log: what `verify` says of it, what a recipient reads, and what is missing of it."""

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.audit import OrderKeys, Report, decrypt, verify
from agent.logformat.layout import LEDGER_FILE
from agent.recorder.log import Record
from hil.log.owner import Owner

Key = tuple[str, str, int]
"""(source, boot, seq): one event."""


@dataclass(frozen=True, slots=True)
class Case:
    """A log and what is known of it from outside.

    `genesis`: the registered line; `witness`: the file of lines that a witness took, None without one;
    `orders`, `witnesses`: the keys of those who order deletions and say the time.
    """

    folder: Path
    owner: Owner
    genesis: bytes
    witness: Path | None = None
    orders: OrderKeys | None = None
    witnesses: Mapping[str, bytes] | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """`code`: exit code of verify; `kinds`: what it found, kind -> count; `lost`: acknowledged and not there.

    A record that reads otherwise than it was sent counts as lost.
    """

    code: int
    kinds: Mapping[str, int]
    lost: int


def registered(folder: Path) -> bytes:
    """The genesis line as the department takes it down, right after it is made."""
    return (folder / LEDGER_FILE).read_bytes().partition(b"\n")[0]


def code_of(case: Case) -> tuple[int, Mapping[str, int]]:
    """Exit code of verify and what it found."""
    report = report_of(case)
    return report.exit_code, report.counts


def report_of(case: Case) -> Report:
    """All that verify says, with everything that is known of the log from outside."""
    return verify(
        case.folder,
        genesis=case.genesis,
        witness=case.witness,
        order_keys=case.orders,
        witness_keys=case.witnesses,
        processes=1,
    )


def judge(case: Case, acknowledged: Iterable[Record]) -> Judged:
    """Everything: verify, decrypt with the recipient's key, compare."""
    code, kinds = code_of(case)
    found = read(case)
    lost = sum(_body(found, record) != record.body for record in acknowledged)
    return Judged(code, kinds, lost)


def _body(found: Mapping[Key, Mapping[str, Any]], record: Record) -> object:
    return found.get(key_of(record), {}).get("body")


def read(case: Case) -> dict[Key, dict[str, Any]]:
    """Event -> the row that `decrypt` gives, of all that opens with the recipient's key."""
    out = io.BytesIO()
    decrypt(case.folder, [case.owner.key], out=out, processes=1)
    rows = map(json.loads, out.getvalue().splitlines())
    return {(row["source"], row["boot"], row["seq"]): row for row in rows}


def key_of(record: Record) -> Key:
    """What makes it the same event."""
    return record.source, record.boot, record.seq
