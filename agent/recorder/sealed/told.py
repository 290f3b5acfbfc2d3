"""What the ledgers in the folder say of segments, for the next start. They are searched, not parsed whole."""

import mmap
import re
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from agent.logformat.layout import LEDGER_FILE
from agent.recorder.sealed.parts import parsed

_SEGMENTS: Final = re.compile(rb'"kind":"seg\.(open|recover|seal)"')
_CHECKPOINT: Final = re.compile(rb'"kind":"checkpoint"')

Entries = Mapping[tuple[str, str, int], list[dict[str, Any]]]
"""By (kind, stream, segno): the bodies of the entries, as they were found: no type in them is checked."""


def ledger_entries(folder: Path) -> Entries:
    """Of `seg.open`, `seg.recover` and `seg.seal`, oldest first; of checkpoints the last one alone."""
    earlier = sorted(folder.glob("ledger-*.jsonl"), key=lambda path: (len(path.name), path.name))
    found: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    checkpoint: dict[str, Any] = {}
    for line in (line for path in (*earlier, folder / LEDGER_FILE) for line in _lines(path)):
        with suppress(
            ValueError, LookupError, TypeError
        ):  # the ledger's own reader says what is wrong with it
            entry = parsed(line)
            if entry["kind"] == "checkpoint":
                checkpoint = entry["body"]
            else:
                body = dict(entry["body"])
                found.setdefault((entry["kind"], body["stream"], body["segno"]), []).append(body)
    with suppress(ValueError, LookupError, TypeError, AttributeError):
        for stream, body in checkpoint["streams"].items():
            found["checkpoint", stream, body["segno"]] = [body]
    return found


def _lines(path: Path) -> Iterator[bytes]:
    """Those of the kinds that are wanted; all but the last of the checkpoints are left out."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as ledger:
            for wanted in (*_SEGMENTS.finditer(ledger), *deque(_CHECKPOINT.finditer(ledger), 1)):
                start = ledger.rfind(b"\n", 0, wanted.start()) + 1
                end = ledger.find(b"\n", wanted.end())
                yield ledger[start : end if end >= 0 else len(ledger)]
    except (OSError, ValueError):  # none yet, or empty
        return
