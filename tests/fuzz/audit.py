"""Rows of `targets.py` for the auditor's side: whatever bytes a log's folder, or a witness's, holds."""

import io
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from agent.audit.entry import parse_entry
from agent.audit.errors import FormatError
from agent.audit.folder import MANIFEST_FILE, list_folder
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
from agent.audit.manifest import check_listing, jobs, read_manifest, text_of
from agent.audit.orders import OrderKeys, check_ack, check_deletion
from agent.audit.report import Witnessed
from agent.audit.rows import read_rows, row_of
from agent.audit.scan import scan_frames
from agent.audit.tail import measure_tail
from agent.audit.walk import Told, Walker
from agent.audit.witness import Lines, compare
from agent.log_time import parse_ns
from agent.logformat.layout import LEDGER_FILE
from agent.logformat.suites import suite_by_number
from tests.audit.forge import ROBOT, Forge, compress, plaintext, record, simple, text
from tests.fuzz import sums

Row = tuple[Callable[[bytes], object], tuple[type[Exception], ...]]

_FOLDER = Path(tempfile.mkdtemp(prefix="fuzz"))


def _walk(data: bytes) -> object:
    """A whole file of any bytes after a header: the walk ends and raises nothing."""
    walker = Walker(
        io.BytesIO(data),
        suite_by_number(1),
        bytes(32),
        start=0,
        first_seq=1,
        marks=iter(()),
        told=Told({3: 9}, 1, data[0] if data else -1),
    )
    return walker.run()


def _records(data: bytes) -> object:
    plain = expand(data[1:], data[0] & 1 if data else 0)
    measure_records(plain, 1)
    return [(read_record(one), parse_record(one)) for one in split_records(plain)]


def _rows(data: bytes) -> object:
    """The quick reading of many records takes nothing that the slow one would not, and tells the same."""
    texts = data.split(b"\0")
    rows = read_rows(texts)
    assert rows is None or rows == [row_of(read_record(one)) for one in texts]
    return rows


def _order(data: bytes) -> object:
    token = data.decode("utf-8", "replace")
    segments = {"order": token, "segments": []}
    ack = {"kid": "w", "n": 1, "hash": "", "witness_time": 1, "token": token}
    return [
        *(check_deletion(segments, ROBOT, keys) for keys in (None, OrderKeys({"root-1": bytes(32)}))),
        *(check_ack(ack, ROBOT, keys) for keys in (None, {"wit-1": bytes(32)})),
    ]


def _manifest(data: bytes) -> object:
    """A bundle's list: as it stands, or any object with its own sum made right."""
    path = _FOLDER / MANIFEST_FILE
    path.write_bytes(_listed(data[1:]) if data[:1] == b"\1" else data)
    found = read_manifest(_FOLDER)
    listing = list_folder(_FOLDER)
    return list(check_listing(found, listing)), list(jobs(_FOLDER, found, listing))


def _listed(data: bytes) -> bytes:
    try:
        found = json.loads(data)
        return text_of(found) if isinstance(found, dict) else data
    except (ValueError, RecursionError):
        return data


def _compare(data: bytes) -> object:
    """Any ledger beside any record of a witness."""
    ledger, record = _FOLDER / LEDGER_FILE, _FOLDER / "record.jsonl"
    mine, _, theirs = data.partition(b"\0")
    ledger.write_bytes(mine)
    record.write_bytes(theirs)
    return compare(ledger, record)


def _tail(data: bytes) -> object:
    """What any lines account for, as the tail after the witnessed entry is measured."""
    path = _FOLDER / LEDGER_FILE
    path.write_bytes(data)
    lines, offset = Lines(path), 0
    for line in data.split(b"\n"):
        lines.add(line, offset)
        offset += len(line) + 1
    seen = Witnessed(LEDGER_FILE, lines.count - 1)
    measure_tail(seen, {LEDGER_FILE: lines}, {"safety": 9, "net": 9, "tele": 9})
    return seen


TARGETS: Final[Mapping[str, Row]] = {
    "log_header": (lambda data: parse_header(sums.header(data)), (FormatError,)),
    "log_gone": (parse_gone, (FormatError,)),
    "log_entry": (parse_entry, (FormatError,)),
    "log_frame": (lambda data: parse_frame(sums.frames(data)), (FormatError,)),
    "log_seal": (lambda data: parse_seal(sums.frames(data)), (FormatError,)),
    "log_records": (_records, (FormatError,)),
    "log_rows": (_rows, ()),
    "log_find": (lambda data: find_frame(sums.frames(data), 0), ()),
    "log_scan": (lambda data: list(scan_frames(io.BytesIO(sums.frames(data)), 0)), ()),
    "log_walk": (_walk, ()),
    "log_order": (_order, ()),
    "log_manifest": (_manifest, (FormatError,)),
    "log_compare": (_compare, ()),
    "log_tail": (_tail, ()),
    "log_time": (lambda data: parse_ns(data.decode("utf-8", "replace")), (ValueError,)),
}


def _seeds(forge: Forge) -> Mapping[str, bytes]:
    one = forge.done["safety", 1]
    first, second = one.offsets
    frames = one.data[first:]
    return {
        "log_header": one.data[:first],
        "log_gone": text(forge.gone(one)),
        "log_entry": forge.lines[4],
        "log_frame": one.data[first:second],
        "log_seal": one.seal_frame,
        "log_records": b"\1" + compress(plaintext([record(1)])),
        "log_rows": text(record(1)) + b"\0" + text(record(2)),
        "log_find": b"x" + frames,
        "log_scan": frames,
        "log_walk": frames,
        "log_order": forge.order(one).encode(),
        "log_manifest": text_of(_MANIFEST),
        "log_compare": forge.ledger.read_bytes() + b"\0" + forge.ledger.read_bytes(),
        "log_tail": forge.ledger.read_bytes(),
        "log_time": b"2027-01-15T08:00:00.5+08:00",
    }


def _more(forge: Forge) -> Mapping[str, tuple[bytes, ...]]:
    one = forge.done["safety", 1]
    first, second = one.offsets
    frame, seal = one.data[first:second], one.seal_frame
    frames = sums.as_frames(frame, one.data[second : -len(seal)], seal)
    return {
        "log_header": (sums.as_fields(one.data[:first]),),
        "log_entry": tuple(forge.lines),
        "log_frame": (sums.as_frames(frame),),
        "log_seal": (sums.as_frames(seal),),
        "log_rows": (text(record(1, n=1.5, zh="急停")), b"\0".join([text(record(1))] * 3)),
        "log_records": (b"\0" + plaintext([record(1)]),),
        "log_scan": (frames,),
        "log_walk": (frames,),
        "log_manifest": (b"\1" + text(_MANIFEST),),
        "log_tail": (b'{"kind":"checkpoint","body":{"streams":{"net":{"next_seq":1e999}}}}\n',),
        "log_time": (b"2027-01-15",),
    }


_MANIFEST: Final = {
    "v": 1,
    "robot": ROBOT,
    "made_ns": 1,
    "live": False,
    "head": {"n": 4, "hash": ""},
    "files": [{"path": "safety/0000000001.seg", "bytes": 1, "sha256": "0" * 64}],
}
_FORGE: Final = simple(Path(tempfile.mkdtemp(prefix="fuzz")))
SEEDS: Final = _seeds(_FORGE)
MORE: Final = _more(_FORGE)
