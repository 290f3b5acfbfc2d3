"""The plain log's line: one JSON object whose last field is the CRC-32 of all the bytes before that field.

Two types of line. `segment` opens each file and carries over what the files before it held, so that
opening the log means reading one file. `event` is one record. A line is at most `MAX_LINE` bytes.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO
from zlib import crc32

from agent.link import MAX_MODULE_PACKET, Message, PacketError, decode_packet, encode_packet
from agent.recorder.log import Record, StreamTotals

MAX_LINE = 8 * MAX_MODULE_PACKET
"""Bytes. JSON written again can grow: `1e15` becomes `1000000000000000.0`, four times as long."""
MAX_BOOTS = 64
"""Starts of one source that are remembered. A module restarted 64 times between a send and its repetition
would see that event kept twice; and no source can push another's out."""

_TAIL = re.compile(rb',"crc":"([0-9a-f]{8})"\}\n\Z')
_NAME = re.compile(r"events-(\d{6,})\.jsonl\Z")


class Senders:
    """The last `seq` of every start of every source; bounded, see MAX_BOOTS."""

    def __init__(self) -> None:
        self._boots: dict[str, dict[str, int]] = {}

    def last(self, source: str, boot: str) -> int:
        """0 for one never seen."""
        return self._boots.get(source, {}).get(boot, 0)

    def note(self, source: str, boot: str, seq: int) -> None:
        """Keeps the larger; the boot heard longest ago makes room."""
        boots = self._boots.setdefault(source, {})
        boots[boot] = max(seq, boots.pop(boot, 0))
        if len(boots) > MAX_BOOTS:
            del boots[next(iter(boots))]

    def rows(self) -> list[tuple[str, str, int]]:
        """(source, boot, seq), in the order in which `note` would build the same table."""
        return [(source, boot, seq) for source, boots in self._boots.items() for boot, seq in boots.items()]


@dataclass(frozen=True, slots=True)
class Opening:
    """A segment's first line: its number, and senders and totals of all segments before it."""

    number: int
    senders: tuple[tuple[str, str, int], ...] = ()
    totals: Mapping[str, StreamTotals] = field(default_factory=dict)


def segment_name(number: int) -> str:
    """`events-000001.jsonl`."""
    return f"events-{number:06}.jsonl"


def segment_number(name: str) -> int | None:
    """The number in a segment's name; None for any other file."""
    found = _NAME.match(name)
    return int(found[1]) if found else None


def record_line(record: Record) -> bytes:
    """The line of a record; raises PacketError when its body cannot be JSON or is far too long."""
    return _sealed(
        {
            "type": "event",
            "source": record.source,
            "boot": record.boot,
            "seq": record.seq,
            "stream": record.stream,
            "kind": record.kind,
            "wall_ns": record.wall_ns,
            "boottime_ns": record.boottime_ns,
            "body": record.body,
        }
    )


def opening_line(opening: Opening) -> bytes:
    """The line of a segment's opening."""
    totals = {name: [t.records, t.bytes, t.oldest_wall_ns] for name, t in opening.totals.items()}
    return _sealed(
        {"type": "segment", "number": opening.number, "senders": opening.senders, "totals": totals}
    )


def _sealed(fields: Mapping[str, object]) -> bytes:
    content = encode_packet(fields, MAX_LINE)[:-1]
    return content + b',"crc":"%08x"}\n' % crc32(content)


def parse_line(line: bytes) -> Record | Opening | None:
    """What a line holds; None for one that is torn, altered, or was never ours."""
    tail = _TAIL.search(line)
    if tail is None or crc32(line[: tail.start()]) != int(tail[1], 16):
        return None
    try:
        fields = decode_packet(line, MAX_LINE)
        return _record(fields) if fields["type"] == "event" else _opening(fields)
    except (PacketError, KeyError, TypeError, ValueError):
        return None  # the sum is right, so somebody wrote this on purpose: it is no line of ours


def _record(fields: Message) -> Record:
    body = fields["body"]
    if not isinstance(body, dict):
        raise TypeError
    return Record(
        source=_text(fields["source"]),
        boot=_text(fields["boot"]),
        seq=_count(fields["seq"]),
        stream=_text(fields["stream"]),
        kind=_text(fields["kind"]),
        wall_ns=_count(fields["wall_ns"]),
        boottime_ns=_count(fields["boottime_ns"]),
        body=body,
    )


def _opening(fields: Message) -> Opening:
    senders, totals = fields["senders"], fields["totals"]
    if not isinstance(senders, list) or not isinstance(totals, dict):
        raise TypeError
    return Opening(
        number=_count(fields["number"]),
        senders=tuple((_text(source), _text(boot), _count(seq)) for source, boot, seq in senders),
        totals={name: StreamTotals(*(_count(figure) for figure in row)) for name, row in totals.items()},
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError
    return value


def read_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file with their ends; one longer than MAX_LINE comes in pieces, none of them valid."""
    return iter(lambda: file.readline(MAX_LINE), b"")
