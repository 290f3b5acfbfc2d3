"""Files that somebody wrote on purpose, sums right: a start refuses none of them, and goes on."""

import json
import shutil
import struct
from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from agent.recorder.sealed.catalogue import Catalogue
from agent.recorder.store import last_setting
from tests.recorder.sealed.ledgers import opened
from tests.recorder.sealed.logs import KEYS, abandon, open_log, record
from tests.recorder.sealed.reading import FRAME, read_segment

NAME = "0000000001.seg"
DEEP = b"[" * 20_000


def summed(data: bytes) -> bytes:
    return data + crc32(data).to_bytes(4, "little")


def header(fields: bytes, wraps: bytes = b"{}", suite: int = 1) -> bytes:
    prefix = struct.pack("<4sBBHII", b"WLOG", 1, suite, 0, len(fields), len(wraps))
    return summed(prefix + fields + wraps)


def fields(**changes: Any) -> bytes:  # noqa: ANN401 - whatever a forger likes
    told = {"first_seq": 1, "wall_ns": 1, "prev_seal": "0" * 64, **changes}
    return json.dumps(told).encode()


def frame(kind: int, body: bytes, count: int, first_seq: int, index: int) -> bytes:
    return summed(FRAME.pack(0x4657, kind, 0, len(body), count, first_seq, index) + body + bytes(16))


def seal(offset: int, **changes: Any) -> bytes:  # noqa: ANN401 - the same
    told = {"frames": 0, "records": 0, "bytes": offset, "reason": "size", **changes}
    return frame(2, json.dumps(told).encode(), 0, 1, 0)


GOOD = header(fields())
HIGHEST = 2**64 - 1

SEGMENTS = [
    b"",
    bytes(5_000),
    header(b"7"),
    header(b"{}"),
    header(DEEP),
    header(fields(first_seq=-1)),
    header(fields(first_seq=HIGHEST)),
    header(fields(first_seq=[])),
    header(fields(first_seq="9" * 5_000)),
    header(fields(first_seq=float("inf"))),
    header(fields(wall_ns=None)),
    header(fields(wall_ns=float("inf"))),
    header(fields(wall_ns=10**400)),
    header(fields(), suite=9),
    struct.pack("<4sBBHII", b"WLOG", 1, 1, 0, HIGHEST >> 32, HIGHEST >> 32),
    GOOD + frame(1, b"x", 1, HIGHEST, 0),
    GOOD + frame(1, b"x", HIGHEST >> 32, HIGHEST >> 1, 0),
    GOOD + frame(1, b"x", 1, 1, HIGHEST >> 32),
    GOOD + frame(1, b"x", 1, 1, 5) + frame(1, b"x", 1, 1, 4) + frame(1, b"x", 1, 1, 6),
    GOOD + frame(3, b"x", 1, 1, 0),
    GOOD + frame(2, DEEP, 0, 1, 0),
    GOOD + frame(2, b"7", 0, 1, 0),
    GOOD + frame(2, b"{}", 0, HIGHEST, 0),
    GOOD + seal(len(GOOD) + 1),
    GOOD + seal(len(GOOD), records="x"),
    GOOD + seal(len(GOOD), frames=float("inf")),
    GOOD + seal(len(GOOD), records=10**400),
    GOOD + seal(len(GOOD)) + frame(1, b"x", 1, 1, 0),
    GOOD + b"WF" * 3_000,
]

GONE = [
    b"",
    b"7",
    b"\xff",
    DEEP,
    b"{}",
    json.dumps({"prefix": 3, "seal": 4, "h": 5}).encode(),
    json.dumps({"prefix": "", "seal": "", "h": ""}).encode(),
    json.dumps({"prefix": "V0xPRwEJAAA", "seal": "", "h": ""}).encode(),
    json.dumps({"prefix": "V0xPRwEBAAA", "seal": "x" * 30, "h": "0" * 63}).encode(),
    json.dumps(
        {
            "prefix": "V0xPRwEBAAA",
            "seal": urlsafe_b64encode(frame(2, b"", 0, HIGHEST, 0)).decode(),
            "h": "00",
        }
    ).encode(),
]

LINES = [
    b"",
    b"7",
    DEEP,
    b'{"kind":"seg.seal"',
    b'{"kind":"seg.seal","body":7}',
    b'{"kind":"seg.seal","body":{"stream":[],"segno":1}}',
    b'{"kind":"seg.seal","body":{"stream":"net","segno":1}}',
    b'{"kind":"seg.seal","body":{"stream":"net","segno":1,"seal":"xy","next_seq":7}}',
    b'{"kind":"seg.seal","body":{"stream":"net","segno":1,"seal":"00","next_seq":"' + b"9" * 30 + b'"}}',
    b'{"kind":"seg.recover","body":{"stream":"net","segno":1,"h":[]}}',
    b'{"kind":"checkpoint","body":{"streams":{"net":{"segno":1,"next_seq":1e999}}}}',
]


def goes_on(folder: Path) -> None:
    for _ in range(2):
        with closing(open_log(folder)) as log:
            log.append([record(7, stream="net")])
            assert log.heads()["net"].next_seq < 2**63
        last = max((folder / "net").glob("*.seg"))
        assert len(read_segment(last, KEYS).fields["prev_seal"]) == 64


@pytest.mark.parametrize("number", range(len(SEGMENTS)))
def test_a_crafted_segment(tmp_path: Path, number: int) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / NAME).write_bytes(SEGMENTS[number])
    goes_on(tmp_path)
    left = b"".join(path.read_bytes() for path in (tmp_path / "net").iterdir())
    assert SEGMENTS[number].rstrip(b"\0") in left or crafted_apart(SEGMENTS[number], left)


def crafted_apart(data: bytes, left: bytes) -> bool:
    """A torn tail is elsewhere than what it was cut from; both are there."""
    return any(data[:cut] in left and data[cut:] in left for cut in range(len(data)))


@pytest.mark.parametrize("number", range(len(GONE)))
def test_a_crafted_tombstone(tmp_path: Path, number: int) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "0000000001.gone").write_bytes(GONE[number])
    goes_on(tmp_path)


def killed(folder: Path) -> None:
    log = open_log(folder)
    log.append([record(1, stream="net")])
    abandon(log)


def torn(folder: Path) -> None:
    killed(folder)
    path = folder / "net" / NAME
    path.write_bytes(path.read_bytes()[:-9])


def unreadable(folder: Path) -> None:
    (folder / "net").mkdir()
    (folder / "net" / NAME).symlink_to(NAME)


@pytest.mark.parametrize("begin", [killed, torn, unreadable])
@pytest.mark.parametrize("number", range(len(LINES)))
def test_crafted_lines_in_the_ledger(tmp_path: Path, number: int, begin: Callable[[Path], None]) -> None:
    begin(tmp_path)
    with (tmp_path / "ledger.jsonl").open("ab") as file:
        file.write(LINES[number] + b"\n")
    goes_on(tmp_path)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("hold", "[]"),
        ("incident", '"x"'),
        ("witness.ack", '{"kid":"w","witness_time":1e999}'),
        ("delete", '{"segments":[{"stream":"net","segno":1e999,"seal":""}]}'),
        ("genesis", '{"suite":Infinity,"previous":null}'),
        ("config", DEEP.decode()),
    ],
)
def test_a_crafted_entry_is_a_doubt(kind: str, body: str) -> None:
    kept = Catalogue(1)
    line = (
        f'{{"v":1,"robot":"r1","n":0,"prev_hash":"{"0" * 64}","boot_id":"b","wall":1,"boottime":1,'
        f'"kind":"{kind}","body":{body}}}'
    )
    kept.read(line.encode())
    assert [hold.id for hold in kept.holds.placed] == ["damaged-0"]


@pytest.mark.parametrize(
    "body", ["7", "{}", DEEP.decode(), '{"recipients":7,"opening":1,"plan":1,"suite":1}']
)
def test_a_crafted_setting_is_none(tmp_path: Path, body: str) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text(f'{{"kind":"config"}}\n{{"a":"b","kind":"config","body":{body}}}\n["kind":"config"]\n')
    assert last_setting(path) is None


def test_a_ledger_whose_last_number_nobody_counted_to_is_begun_anew(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        line = ledger.genesis_line
    (tmp_path / "state").unlink()
    (tmp_path / "ledger.jsonl").write_bytes(line.replace(b'"n":0,', b'"n":%d,' % 2**64) + b"\n")
    with opened(tmp_path) as ledger:
        assert (ledger.head.n, ledger.broken_off) == (0, "state_lost")


def test_a_number_that_is_taken_is_not_written_over(tmp_path: Path) -> None:
    """The name after the highest number is one digit longer, and so not found again."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "9999999999.seg").write_bytes(GOOD)
    with closing(open_log(tmp_path)) as log:
        log.append([record(1, stream="net")])
    taken = tmp_path / "net" / "10000000000.seg"
    before = taken.read_bytes()
    with closing(open_log(tmp_path)) as log, pytest.raises(Exception, match="a file of that name"):
        log.append([record(2, stream="net")])
    assert taken.read_bytes() == before
    shutil.rmtree(tmp_path / "net")
