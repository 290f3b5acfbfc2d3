"""What came after the last witnessed entry: nobody but the robot itself vouches for it."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from agent.audit.report import Witnessed
from agent.audit.witness import Lines

_SPEAKS: Final = (b'"kind":"seg.', b'"kind":"checkpoint"')


def measure_tail(seen: Witnessed, ledgers: Mapping[str, Lines], next_seqs: Mapping[str, int]) -> None:
    """Fills in `tail_entries` and `tail_records`; OSError when a ledger cannot be read again.

    `ledgers`: in order; `next_seqs`: stream → the number after its last record.
    """
    names = list(ledgers)
    at = names.index(seen.ledger) if seen.ledger in ledgers else 0
    later = sum(ledgers[name].count for name in names[at:])
    seen.tail_entries = later - (seen.n + 1)
    covered = _covered(ledgers[seen.ledger].back(seen.n), next_seqs) if seen.n >= 0 else {}
    seen.tail_records = sum(max(0, last - covered.get(stream, 1)) for stream, last in next_seqs.items())


def _covered(lines: Iterable[bytes], wanted: Mapping[str, int]) -> dict[str, int]:
    """Stream → number after the last record that the newest of these lines, newest first, accounts for."""
    covered: dict[str, int] = {}
    missing = {stream for stream, last in wanted.items() if last > 1}
    for line in lines:
        if not missing:
            break
        if any(kind in line for kind in _SPEAKS):
            for stream, next_seq in _accounts(line).items():
                covered.setdefault(stream, next_seq)
                missing.discard(stream)
    return covered


def _accounts(line: bytes) -> dict[str, int]:
    """{} for a line that cannot be read: the pass over the ledger has reported it."""
    try:
        entry: dict[str, Any] = json.loads(line)
        body = entry["body"]
        rows = body["streams"] if entry["kind"] == "checkpoint" else {body["stream"]: body}
        return {name: int(row.get("next_seq", row.get("first_seq"))) for name, row in rows.items()}
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}
