"""Rows of `targets.py` for the recorder and the witness: what is on their own disks, and what they are sent.

A start goes on with whatever it finds, damaged, or put there by somebody. What is signed is signed here over
any bytes, so that what is read behind a signature is met too.
"""

import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from zlib import crc32

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.ledger_link import LedgerLink
from agent.logformat.layout import (
    LEDGER_FILE,
    ORDER_TYP,
    WITNESS_TYP,
    gone_name,
    segment_name,
)
from agent.logformat.suites import SuiteError, suite_by_number
from agent.mqtt import Outgoing
from agent.recorder.packets import read_record, read_sample
from agent.recorder.receipts import read_receipt
from agent.recorder.sealed.catalogue import Catalogue
from agent.recorder.sealed.deletion import Grave
from agent.recorder.sealed.disk import Disk
from agent.recorder.sealed.ends import Places, judge, parse_line, read_tail
from agent.recorder.sealed.marks import MARKS_FILE, Marks
from agent.recorder.sealed.orders import Named, OrderError
from agent.recorder.sealed.parts import Clocks, Point, Tools
from agent.recorder.sealed.recover import Recovery
from agent.recorder.sealed.scan import last_seal, read_header, scan
from agent.recorder.sealed.state import End, Slot
from agent.recorder.sealed.told import ledger_entries
from agent.recorder.store import last_setting
from agent.tokens import TokenError, read_object
from console.errors import ConsoleError
from console.order import read_draft
from console.witness.entry import head_of, misfit, read_entry
from console.witness.errors import EntryError, WitnessStateError
from console.witness.store import Store
from tests.audit.forge import Forge, b64, simple, text
from tests.console.witness.ledgers import Chain
from tests.fuzz import sums
from tests.recorder.sealed.logs import SEALING, PlainLedger
from tests.recorder.sealed.office import DEPARTMENT, OFFICE, ROBOT, WITNESS, WITNESSES, claims, receipt

Row = tuple[Callable[[bytes], object], tuple[type[Exception], ...]]

_FOLDER = Path(tempfile.mkdtemp(prefix="fuzz"))
_MEMORY = os.memfd_create("fuzz")


class _QuickDisk(Disk):
    """Without the syncs: no power is cut here."""

    def sync(self, fd: int) -> None:
        pass

    def sync_all(self, fd: int) -> None:
        pass


def _file(data: bytes) -> int:
    """A file of these bytes, the same one each time."""
    os.ftruncate(_MEMORY, 0)
    os.pwrite(_MEMORY, data, 0)
    return _MEMORY


# ---- segments


def _scan(data: bytes) -> object:
    """As a start looks through it, as a deletion does, and by the seal at its end alone."""
    fd = _file(sums.frames(data))
    suite, start = suite_by_number(1), Point(0, 0, 0, 1, bytes(32))
    return scan(fd, suite, start), scan(fd, suite, start, 1), last_seal(fd, os.fstat(fd).st_size)


def _recovery(ledger: bytes, **files: bytes) -> object:
    """A start with one segment, or what is left of one, under a ledger of these lines; then one more."""
    folder = _FOLDER / "recovery"
    stream = folder / "net"
    stream.mkdir(parents=True, exist_ok=True)
    for path in stream.iterdir():
        path.unlink()
    (folder / LEDGER_FILE).write_bytes(ledger)
    for name, data in files.items():
        (stream / name).write_bytes(data)
    fd = os.open(stream, os.O_RDONLY)
    try:
        tools = Tools(SEALING, PlainLedger(folder), _QuickDisk(), Clocks())
        tails = [Recovery("net", stream, fd, tools, ledger_entries(folder)).run() for _ in range(2)]
        assert all(1 <= tail.next_seq < 2**63 and len(tail.prev_seal) == 64 for tail in tails)
    finally:
        os.close(fd)
    return tails


def _segment(data: bytes) -> object:
    head, _, rest = data.partition(b"\0\0\0\0")
    return _recovery(_OPEN, **{segment_name(1): sums.header(head) + sums.frames(rest)})


def _told(data: bytes) -> object:
    return _recovery(data, **{segment_name(1): _TORN})


def _gone(data: bytes) -> object:
    return _recovery(_OPEN, **{gone_name(1): data})


def _grave(data: bytes) -> object:
    """A deletion of any file whose order names it by the seal that is in it."""
    head, _, rest = data.partition(b"\0\0\0\0")
    folder = _FOLDER / "grave"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    (folder / segment_name(1)).write_bytes(sums.header(head) + sums.frames(rest))
    fd = os.open(folder, os.O_RDONLY)
    try:
        return Grave(fd, _QuickDisk()).bury(Named("net", 1, _SEAL))
    finally:
        os.close(fd)


# ---- the ledger, and what is beside it


def _tail(data: bytes) -> object:
    """Whether a key follows from what stands at the end: one that does, and one that does not."""
    tail = read_tail(_file(data))
    places = Places()
    lines = list(places.lines_after(0, io.BytesIO(data), lambda: (len(data), 1 << 40)))
    ends = judge(tail, _SLOTS), judge(tail, ())
    assert all(end.n < 2**64 for end in ends if isinstance(end, End)), "or the state cannot hold it"
    return ends, tail.last, lines


def _catalogue(data: bytes) -> object:
    kept = Catalogue(1)
    for line in data.split(b"\n"):
        kept.read(line)
    kept.holds.forget(1)
    return kept.n, [kept.holds.over(span.from_ns, span.to_ns, 1) for span in kept.segments.values()]


def _setting(data: bytes) -> object:
    path = _FOLDER / LEDGER_FILE
    path.write_bytes(data)
    return last_setting(path)


def _marks(data: bytes) -> object:
    """One slot, of any bytes or of any JSON with its sum made right; and what comes after it."""
    if data[:1] == b"\1":
        rest = (7).to_bytes(8, "little") + data[1:]
        data = (len(data) - 1).to_bytes(4, "little") + crc32(rest).to_bytes(4, "little") + rest
    (_FOLDER / MARKS_FILE).write_bytes(data)
    fd = os.open(_FOLDER, os.O_RDONLY)
    try:
        marks = Marks(_QuickDisk(), fd, lambda _stream, segno, index: segno * index < 9)
        marks.stage("net", (1, 0), {("reflex", "aa"): 5}, {("reflex", "aa"): 3})
        marks.confirm()
        marks.close()
    finally:
        os.close(fd)
    return marks


# ---- what is sent


def _signed(payload: bytes, key: Ed25519PrivateKey, kid: str, typ: str) -> str:
    head = b64(text({"alg": "EdDSA", "kid": kid, "typ": typ}))
    covered = f"{head}.{b64(payload)}"
    return f"{covered}.{b64(key.sign(covered.encode()))}"


def _given(data: bytes, key: Ed25519PrivateKey, kid: str, typ: str) -> str:
    """A token of any bytes, or a good signature over any claims."""
    return _signed(data[1:], key, kid, typ) if data[:1].strip(b"\0") else data[1:].decode("utf-8", "replace")


def _receipt(data: bytes) -> object:
    return read_receipt(_given(data, WITNESS, "w", WITNESS_TYP), robot_id=ROBOT, keys=WITNESSES).body()


def _order(data: bytes) -> object:
    word = "release" if data[:1] > b"\x7f" else "delete"
    return OFFICE.read(_given(data, DEPARTMENT, "dept", ORDER_TYP), word)


def _event(data: bytes) -> object:
    message = read_object(data)
    return read_record(("reflex", "ab" * 16), message, "s"), read_sample(message)


class _Broker:
    connected = True
    waiting = 0

    def publish(self, packet: Outgoing) -> None:
        assert len(packet.payload) < 1 << 20


def _carried(data: bytes) -> object:
    """What `remote` carries between recorder and witness, each way."""
    link = LedgerLink("r1", _Broker(), offer=lambda _: True, bad=lambda _: None)
    link.acknowledged(data, retained=False)
    link.tick()
    message = read_object(data)
    return "type" in message and link.told(message)


# ---- the witness


def _entry(data: bytes) -> object:
    entry = read_entry(data)
    return misfit(None, entry), head_of(data, entry)


def _record(data: bytes) -> object:
    """A witness's own file: cut short, damaged, or exchanged."""
    folder = _FOLDER / "witness"
    folder.mkdir(exist_ok=True)
    for path in folder.glob("R1.*"):
        path.unlink()
    (folder / "R1.jsonl").write_bytes(data)
    store = Store(folder)
    try:
        kept = store.load("R1")
        return [store.line_at("R1", n, kept.bytes) for n in range(4)] if kept else None
    finally:
        store.close()


def _draft(data: bytes) -> object:
    path = _FOLDER / "draft.json"
    path.write_bytes(data)
    return read_draft(path)


TARGETS: Final[Mapping[str, Row]] = {
    "kept_header": (lambda data: read_header(_file(sums.header(data))), (SuiteError,)),
    "kept_scan": (_scan, ()),
    "kept_segment": (_segment, ()),
    "kept_told": (_told, ()),
    "kept_gone": (_gone, ()),
    "kept_grave": (_grave, ()),
    "kept_line": (parse_line, ()),
    "kept_tail": (_tail, ()),
    "kept_catalogue": (_catalogue, ()),
    "kept_setting": (_setting, ()),
    "kept_marks": (_marks, ()),
    "recorder_event": (_event, (ValueError,)),
    "recorder_receipt": (_receipt, (TokenError,)),
    "recorder_order": (_order, (OrderError,)),
    "ledger_carried": (_carried, (ValueError,)),
    "witness_entry": (_entry, (EntryError,)),
    "witness_record": (_record, (WitnessStateError,)),
    "order_draft": (_draft, (ConsoleError,)),
}


# ---- seeds

_FORGE: Final[Forge] = simple(Path(tempfile.mkdtemp(prefix="fuzz")))
_NET: Final = _FORGE.fill("net")
_LEDGER: Final = b"".join(line + b"\n" for line in _FORGE.lines)
_OPEN: Final = b"".join(line + b"\n" for line in _FORGE.lines if b'"seg.open"' in line)
_TORN: Final = _NET.data[:-9]
_SEAL: Final = _NET.h.hex()
_SLOTS: Final = (
    Slot(9, 1, End(8, suite_by_number(1).hash(_FORGE.lines[-1])), bytearray(32)),
    Slot(4, 1, End(3, suite_by_number(1).hash(_FORGE.lines[3])), bytearray(b"\1" * 32)),
)


def _line(kind: str, body: str) -> bytes:
    whole = _FORGE.line(kind, {})
    return whole.replace(b'"body":{}', b'"body":%b' % body.encode())


def _seeds() -> Mapping[str, tuple[bytes, ...]]:
    first, second = _NET.offsets
    head = sums.as_fields(_NET.data[:first])
    frames = sums.as_frames(
        _NET.data[first:second], _NET.data[second : -len(_NET.seal_frame)], _NET.seal_frame
    )
    segment = head + b"\0\0\0\0" + frames
    event = {"stream": "net", "kind": "x", "seq": 1, "wall_ns": 1, "boottime_ns": 1, "body": {}, "data": {}}
    line = {"type": "ledger", "line": "x", "head": {"n": 1, "hash": "ab" * 32}}
    chain = Chain()
    rows = [{"stream": "net", "segno": 1, "seal": _SEAL}]
    marks = {"tags": {"net": [1, 0]}, "senders": [["reflex", "aa", 3, [0, 1, 2]]]}
    token = json.loads(json.dumps(receipt(1)))["token"].encode()
    acked = {"iss": "w", "aud": ROBOT, "iat": 1, "n": 0, "hash": "cd" * 32, "witness_time": 1}
    return {
        "kept_header": (_NET.data[:first], head, _INFINITE),
        "kept_scan": (_NET.data[first:], frames),
        "kept_segment": (segment, segment[:-9], _INFINITE),
        "kept_told": (_LEDGER,),
        "kept_gone": (text(_FORGE.gone(_NET)),),
        "kept_grave": (segment,),
        "kept_line": tuple(_FORGE.lines),
        "kept_tail": (_LEDGER, _LEDGER[:-2], _FORGE.lines[0].replace(b'"n":0', b'"n":1%d' % 2**64) + b"\n"),
        "kept_catalogue": (_LEDGER, *_FORGE.lines, _line("hold", "[]"), _line("witness.ack", _TIMES)),
        "kept_setting": (_FORGE.line("config", _SETTING) + b"\n", b'{"kind":"config"}\n'),
        "kept_marks": (b"\1" + text(marks), b"\1" + text(marks).replace(b"0]}", b"1e999]}")),
        "recorder_event": (text(event),),
        "recorder_receipt": (b"\0" + token, b"\1" + text(acked)),
        "recorder_order": (b"\1" + text(claims("delete")), b"\xff" + text(claims("release"))),
        "ledger_carried": (text(line), token),
        "witness_entry": (chain.lines[0], *_FORGE.lines),
        "witness_record": (b"".join(one + b"\n" for one in chain.lines),),
        "order_draft": (text({"robot": ROBOT, "order": "delete", "segments": rows, "reason": ""}),),
    }


_TIMES: Final = '{"kid":"w","witness_time":1e999}'
_INFINITE: Final = b'\1\1{"first_seq":1e999,"wall_ns":1e999,"prev_seal":""}'
"""JSON has no infinity, and Python reads one all the same."""
_SETTING: Final = {"recipients": ["dep"], "opening": "any", "plan": "cd" * 32, "suite": 1}
SEEDS: Final = _seeds()
