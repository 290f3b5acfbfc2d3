"""One line of a robot's ledger, and whether it follows from the line before (agent/logformat/README.md).

Pure. Lines come from whoever reaches the broker: size first, then form, and the signature by the caller
before anything in the line is believed.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from agent.core.trust import decode_base64url, is_name
from agent.logformat.layout import (
    LEDGER_FIELDS,
    LEDGER_LABEL,
    LEDGER_SIG,
    MAX_LEDGER_LINE_BYTES,
    VERSION,
    ZERO_HASH,
)
from agent.logformat.suites import SuiteError, suite_by_number
from agent.tokens import read_object
from console.witness.errors import EntryError

MAX_NUMBER: Final = 2**53
"""Beyond this a JSON number is not exact in every language."""
SUITE_OF_KEY: Final = {32: 1, 65: 2}
"""Bytes of a public key -> its suite (README, "Suites"): `next_pk` says which suite the next entry has."""
MAX_SIGNATURE_BYTES: Final = 80
"""Ed25519: 64; SM2 in DER: at most 72."""

_HASH: Final = re.compile(r"[0-9a-f]{64}")
_KIND: Final = re.compile(r"[a-z][a-z.]{0,31}")
_CONTROL: Final = re.compile(rb"[\x00-\x1f]")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a witness needs of a line.

    `pk`: of a genesis, the key that signs it; else None. `names_suite`: its body says which suite is next.
    """

    robot: str
    n: int
    prev_hash: str
    kind: str
    pk: bytes | None
    next_pk: bytes
    names_suite: bool
    signed: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry taken. `next_pk`: the key that must sign the next one, in the form of its suite."""

    n: int
    hash: str
    next_pk: bytes


class Misfit(StrEnum):
    """Why an entry does not follow from the head."""

    NUMBER = "number"
    PREV_HASH = "prev_hash"
    SIGNATURE = "signature"
    SUITE = "suite"
    """`next_pk` is of another suite, and the entry is no configuration that says so."""
    SUITE_MISSING = "suite_missing"
    """Not the robot's fault: this machine has not got the suite and cannot judge."""


def read_entry(line: bytes) -> Entry:
    """The entry in a line (without its newline); EntryError for anything else."""
    if len(line) > MAX_LEDGER_LINE_BYTES:
        raise EntryError(f"longer than {MAX_LEDGER_LINE_BYTES} bytes")
    if _CONTROL.search(line):
        raise EntryError("a control character outside a text")  # a newline would make two lines of it
    try:
        fields = read_object(line)
    except ValueError:
        raise EntryError("not a JSON object") from None
    if tuple(fields) != LEDGER_FIELDS:
        raise EntryError("its fields are not those of an entry, in their order")
    signed, _, tail = line.rpartition(LEDGER_SIG)
    signature = decode_base64url(fields["sig"])
    if tail != f'{fields["sig"]}"}}'.encode() or signature is None or len(signature) > MAX_SIGNATURE_BYTES:
        raise EntryError("sig is not at its end, in base64url")
    return _entry(fields, LEDGER_LABEL + signed, signature)


def _entry(fields: dict[str, Any], signed: bytes, signature: bytes) -> Entry:
    n, kind, body = fields["n"], fields["kind"], fields["body"]
    if type(fields["v"]) is not int or fields["v"] != VERSION:
        raise EntryError(f"v is not {VERSION}")
    if not isinstance(fields["robot"], str) or not is_name(fields["robot"]):
        raise EntryError("robot is no robot's id")
    if type(n) is not int or not 0 <= n <= MAX_NUMBER:
        raise EntryError("n is no number of an entry")
    if not _matches(_HASH, fields["prev_hash"]) or not _matches(_KIND, kind) or not isinstance(body, dict):
        raise EntryError("prev_hash, kind or body")
    if (kind == "genesis") != (n == 0) or (n == 0) != (fields["prev_hash"] == ZERO_HASH):
        raise EntryError("a genesis is entry 0 and follows nothing, and no other entry does")
    next_pk = _key(fields["next_pk"], "next_pk")
    pk = _key(body.get("pk"), "pk") if kind == "genesis" else None
    # In a genesis and in a configuration: the suite of the next entry, and so of `next_pk`.
    names_suite = kind == "genesis" or (kind == "config" and "suite" in body)
    suite = SUITE_OF_KEY[len(next_pk)]
    if names_suite and (body.get("suite") != suite or (pk is not None and SUITE_OF_KEY[len(pk)] != suite)):
        raise EntryError("suite is not that of the keys")
    return Entry(fields["robot"], n, fields["prev_hash"], kind, pk, next_pk, names_suite, signed, signature)


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _key(value: object, name: str) -> bytes:
    key = decode_base64url(value)
    if key is None or len(key) not in SUITE_OF_KEY:
        raise EntryError(f"{name} is no public key")
    return key


def line_hash(line: bytes, next_pk: bytes) -> str:
    """The hash that the next entry must name, by the suite that holds there; SuiteError without it."""
    return suite_by_number(SUITE_OF_KEY[len(next_pk)]).hash(line).hex()


def is_signed_by(entry: Entry, key: bytes) -> bool:
    """Whether the entry's signature is by that key; SuiteError without the key's suite."""
    return suite_by_number(SUITE_OF_KEY[len(key)]).verify(key, entry.signed, entry.signature)


def head_of(line: bytes, entry: Entry) -> Head:
    """The head that a line makes; SuiteError without the suite of the next entry."""
    return Head(entry.n, line_hash(line, entry.next_pk), entry.next_pk)


def misfit(head: Head | None, entry: Entry) -> Misfit | None:
    """Why the entry does not follow from the head (None: a genesis follows from nothing); None: it does."""
    if head is None:
        key = entry.pk
        if key is None:
            return Misfit.NUMBER
    else:
        key = head.next_pk
        if entry.n != head.n + 1:
            return Misfit.NUMBER
        if entry.prev_hash != head.hash:
            return Misfit.PREV_HASH
        if len(entry.next_pk) != len(key) and not entry.names_suite:
            return Misfit.SUITE
    try:
        return None if is_signed_by(entry, key) else Misfit.SIGNATURE
    except SuiteError:
        return Misfit.SUITE_MISSING
