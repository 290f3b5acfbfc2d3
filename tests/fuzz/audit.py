"""Rows of `targets.py` for the auditor's side: whatever bytes a log's folder holds."""

import io
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from agent.audit.entry import parse_entry
from agent.audit.errors import FormatError
from agent.audit.frames import (
    expand,
    find_frame,
    measure_records,
    parse_frame,
    parse_record,
    parse_seal,
    read_record,
    split_records,
)
from agent.audit.header import parse_gone, parse_header
from agent.audit.orders import OrderKeys, check_ack, check_deletion
from agent.audit.scan import scan_frames
from agent.audit.walk import Walker
from agent.logformat.suites import suite_by_number
from tests.audit.forge import ROBOT, Forge, compress, plaintext, record, simple, text

Row = tuple[Callable[[bytes], object], tuple[type[Exception], ...]]


def _walk(data: bytes) -> object:
    """A whole file of any bytes after a header: the walk ends and raises nothing."""
    walker = Walker(
        io.BytesIO(data), suite_by_number(1), bytes(32), start=0, first_seq=1, marks=iter(()), damaged={3: 9}
    )
    return walker.run()


def _records(data: bytes) -> object:
    plain = expand(data[1:], data[0] & 1 if data else 0)
    measure_records(plain, 1)
    return [(read_record(one), parse_record(one)) for one in split_records(plain)]


def _order(data: bytes) -> object:
    token = data.decode("utf-8", "replace")
    segments = {"order": token, "segments": []}
    ack = {"kid": "w", "n": 1, "hash": "", "witness_time": 1, "token": token}
    return [
        *(check_deletion(segments, ROBOT, keys) for keys in (None, OrderKeys({"root-1": bytes(32)}))),
        *(check_ack(ack, ROBOT, keys) for keys in (None, {"wit-1": bytes(32)})),
    ]


TARGETS: Final[Mapping[str, Row]] = {
    "log_header": (parse_header, (FormatError,)),
    "log_gone": (parse_gone, (FormatError,)),
    "log_entry": (parse_entry, (FormatError,)),
    "log_frame": (parse_frame, (FormatError,)),
    "log_seal": (parse_seal, (FormatError,)),
    "log_records": (_records, (FormatError,)),
    "log_find": (lambda data: find_frame(data, 0), ()),
    "log_scan": (lambda data: list(scan_frames(io.BytesIO(data), 0)), ()),
    "log_walk": (_walk, ()),
    "log_order": (_order, ()),
}


def _seeds(forge: Forge) -> Mapping[str, bytes]:
    one = forge.done["safety", 1]
    first, second = one.offsets
    frames = one.data[first:]
    plain = plaintext([record(1)])
    return {
        "log_header": one.data[:first],
        "log_gone": text(forge.gone(one)),
        "log_entry": forge.lines[4],
        "log_frame": one.data[first:second],
        "log_seal": one.seal_frame,
        "log_records": b"\1" + compress(plain),
        "log_find": b"x" + frames,
        "log_scan": frames,
        "log_walk": frames,
        "log_order": forge.order(one).encode(),
    }


SEEDS: Final = _seeds(simple(Path(tempfile.mkdtemp(prefix="fuzz"))))
