"""A segment's header, and what stays of a deleted segment: decoders (agent/logformat/README.md)."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.audit import forms
from agent.audit.errors import FormatError
from agent.audit.frames import Seal, parse_seal
from agent.core.trust import is_name
from agent.logformat.layout import (
    CRC,
    HASHED_PREFIX_BYTES,
    HEADER_MAGIC,
    HEADER_PREFIX,
    LABEL_HEADER,
    MAX_HEADER_BYTES,
    STREAMS,
    VERSION,
)
from agent.logformat.suites import Suite, SuiteError, suite_by_number

MAX_GONE_BYTES: Final = 2 * MAX_HEADER_BYTES
"""Of a tombstone: `fields` is escaped once more, the seal is some 250 bytes."""

_FIELDS: Final[Mapping[str, forms.Check]] = {
    "stream": forms.is_one_of(*STREAMS),
    "robot": is_name,
    "segno": forms.is_int,
    "first_seq": forms.is_int,
    "boot_id": forms.is_boot,
    "wall_ns": forms.is_int,
    "boottime_ns": forms.is_int,
    "prev_seal": forms.is_hash,
    "opening": forms.is_one_of("any", "all"),
    "recipients": forms.is_texts,
    "commitment": forms.is_text,
}
_GONE: Final[Mapping[str, forms.Check]] = {
    "prefix": forms.is_text,
    "fields": forms.is_text,
    "wraps_hash": forms.is_hash,
    "seal": forms.is_text,
    "h": forms.is_hash,
    "bytes": forms.is_int,
}


@dataclass(frozen=True, slots=True)
class Fields:
    """The part of a header that every hash of a segment grows from. `prefix`: its first 8 bytes."""

    suite: Suite
    prefix: bytes
    text: bytes
    stream: str
    robot: str
    segno: int
    first_seq: int
    wall_ns: int
    prev_seal: str
    opening: str
    recipients: tuple[str, ...]
    commitment: bytes

    @property
    def hash(self) -> bytes:
        """`fields_hash`."""
        return self.suite.hash(LABEL_HEADER, self.prefix, self.text)


@dataclass(frozen=True, slots=True)
class Header:
    """A whole header. `wraps`: kid → wrapped secret; `size`: its bytes, where frame 0 begins."""

    fields: Fields
    wraps: Mapping[str, bytes]
    wraps_hash: bytes
    size: int

    @property
    def hash(self) -> bytes:
        """`header_hash`."""
        return self.fields.suite.hash(self.fields.hash, self.wraps_hash)


@dataclass(frozen=True, slots=True)
class Gone:
    """What a tombstone proves: the header's hash and the seal's, computed again."""

    fields: Fields
    header_hash: bytes
    seal_hash: bytes
    h: bytes
    bytes: int
    seal: Seal


def parse_header(data: bytes) -> Header:
    """The header that `data`, at least the first 64 KiB of a segment or all of it, begins with."""
    if len(data) < HEADER_PREFIX.size:
        raise FormatError("header: cut short")
    _, _, _, _, fields_len, wraps_len = HEADER_PREFIX.unpack_from(data)
    size = HEADER_PREFIX.size + fields_len + wraps_len + CRC.size
    if size > MAX_HEADER_BYTES:
        raise FormatError(f"header: {size} bytes, at most {MAX_HEADER_BYTES}")
    if size > len(data):
        raise FormatError("header: cut short")
    if zlib.crc32(data[: size - CRC.size]) != CRC.unpack_from(data, size - CRC.size)[0]:
        raise FormatError("header: checksum wrong")
    middle = HEADER_PREFIX.size + fields_len
    fields = _fields(data[:HASHED_PREFIX_BYTES], data[HEADER_PREFIX.size : middle])
    wraps = data[middle : size - CRC.size]
    return Header(fields, _wraps(wraps, fields.recipients), fields.suite.hash(wraps), size)


def _fields(prefix: bytes, text: bytes) -> Fields:
    suite = _suite(prefix)
    found = forms.read_canonical(text)
    forms.require(found, _FIELDS, "header")
    commitment = _commitment(found["commitment"])
    if found["segno"] < 1 or found["first_seq"] < 1 or not found["recipients"]:
        raise FormatError("header: segno and first_seq start at 1, and a recipient there must be")
    return Fields(suite, prefix, text, **_kept(found), commitment=commitment)


def _commitment(text: str) -> bytes:
    """32 bytes, as a hash is written or as bytes are: README leaves open which of the two an HMAC is."""
    value = bytes.fromhex(text) if forms.is_hash(text) else forms.as_bytes(text)
    if value is None or len(value) != 32:
        raise FormatError("header: commitment is wrong")
    return value


def _kept(found: Mapping[str, Any]) -> dict[str, Any]:
    names = ("stream", "robot", "segno", "first_seq", "wall_ns", "prev_seal", "opening")
    return {**{name: found[name] for name in names}, "recipients": tuple(found["recipients"])}


def _suite(prefix: bytes) -> Suite:
    magic, version, number, zero = HEADER_MAGIC, prefix[4], prefix[5], prefix[6:]
    if not prefix.startswith(magic) or version != VERSION or zero != b"\0\0":
        raise FormatError("header: magic or version wrong")
    try:
        return suite_by_number(number)
    except SuiteError as error:
        raise FormatError(f"header: suite {number}: {error.reason}") from None


def _wraps(text: bytes, recipients: tuple[str, ...]) -> dict[str, bytes]:
    found = forms.read_canonical(text)
    if found.keys() != set(recipients):
        raise FormatError("header: wraps are for others than the recipients")
    good = {kid: wrapped for kid, value in found.items() if (wrapped := forms.as_bytes(value))}
    if len(good) != len(found):
        raise FormatError("header: a wrapped secret is not base64url")
    return good


def parse_gone(data: bytes) -> Gone:
    """The tombstone that is the whole of `data`; one newline may end it."""
    if len(data) > MAX_GONE_BYTES:
        raise FormatError(f"tombstone: more than {MAX_GONE_BYTES} bytes")
    found = forms.read_canonical(data.removesuffix(b"\n"))
    forms.require(found, _GONE, "tombstone")
    prefix, seal = forms.as_bytes(found["prefix"]), forms.as_bytes(found["seal"])
    if prefix is None or seal is None or len(prefix) != HASHED_PREFIX_BYTES:
        raise FormatError("tombstone: prefix or seal is not base64url")
    fields = _fields(prefix, _utf8(found["fields"]))
    h = bytes.fromhex(found["h"])
    return Gone(
        fields=fields,
        header_hash=fields.suite.hash(fields.hash, bytes.fromhex(found["wraps_hash"])),
        seal_hash=fields.suite.hash(h, seal[: -CRC.size]),
        h=h,
        bytes=found["bytes"],
        seal=parse_seal(seal),
    )


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise FormatError("tombstone: fields is not a text") from None
