"""One line of the ledger: decoder (README of agent/logformat, "Ledger")."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.audit import forms
from agent.audit.errors import FormatError
from agent.core.trust import is_name
from agent.logformat.layout import LEDGER_FIELDS, LEDGER_LABEL, LEDGER_SIG, MAX_LEDGER_LINE_BYTES, STREAMS

_STREAM: Final = forms.is_one_of(*STREAMS)
_AGENT: Final = forms.is_object({"version": forms.is_text, "digest": forms.is_text})
_NAMED: Final = {"stream": _STREAM, "segno": forms.is_int}
_PAIR: Final = forms.is_list(forms.is_int)
_MARK: Final = forms.is_object(
    {"segno": forms.is_int, "frames": forms.is_int, "next_seq": forms.is_int, "h": forms.is_hash}
)
_TIME: Final = forms.either(forms.is_int, forms.is_one_of(None))


def _streams(value: object) -> bool:
    return isinstance(value, dict) and all(_STREAM(name) and _MARK(mark) for name, mark in value.items())


def _damaged(value: object) -> bool:
    return isinstance(value, list) and all(_PAIR(item) and len(item) == 2 for item in value)


BODIES: Final[Mapping[str, tuple[Mapping[str, forms.Check], ...]]] = {
    "genesis": (
        {
            "suite": forms.is_int,
            "pk": forms.is_text,
            "recipients": forms.is_texts,
            "opening": forms.is_one_of("any", "all"),
            "agent": _AGENT,
            "previous": forms.either(
                forms.is_one_of(None),
                forms.is_object({"n": forms.is_int, "hash": forms.is_hash, "reason": forms.is_text}),
            ),
        },
    ),
    "boot": (
        {
            "plan": forms.is_text,
            "agent": _AGENT,
            "state": forms.is_one_of("credential", "file"),
        },
    ),
    "seg.open": ({**_NAMED, "first_seq": forms.is_int, "header": forms.is_hash},),
    "checkpoint": ({"streams": _streams},),
    "seg.seal": (
        {
            **_NAMED,
            "frames": forms.is_int,
            "records": forms.is_int,
            "next_seq": forms.is_int,
            "bytes": forms.is_int,
            "seal": forms.is_hash,
            "reason": forms.is_text,
        },
    ),
    "seg.recover": (
        {
            **_NAMED,
            "frames": forms.is_int,
            "next_seq": forms.is_int,
            "h": forms.either(forms.is_hash, forms.is_one_of("", None)),
            "torn_bytes": forms.is_int,
            "kept_as": forms.either(forms.is_text, forms.is_one_of(None)),
            "damaged": _damaged,
        },
    ),
    "clock.step": ({"before_ns": forms.is_int, "after_ns": forms.is_int},),
    "witness.ack": (
        {
            "kid": is_name,
            "n": forms.is_int,
            "hash": forms.is_hash,
            "witness_time": forms.is_int,
            "token": forms.is_text,
        },
    ),
    "hold": (
        {"id": forms.is_text, "from_ns": _TIME, "to_ns": _TIME, "reason": forms.is_text},
        {"id": forms.is_text, "release": forms.is_text},
    ),
    "delete": (
        {
            "order": forms.is_text,
            "segments": forms.is_list(forms.is_object({**_NAMED, "seal": forms.is_hash})),
        },
    ),
    "service.end": ({"reason": forms.is_text},),
    "disk.level": ({"level": forms.is_one_of(0, 1, 2, 3, 4, 5), "free_permille": forms.is_int},),
    "loss": ({"stream": forms.is_text, "count": forms.is_int, "reason": forms.is_text},),
    "incident": (
        {
            "id": forms.either(forms.is_text, forms.is_int),
            "channel": forms.is_text,
            "response": forms.is_text,
            "epoch": forms.is_int,
            "from_ns": _TIME,
            "to_ns": _TIME,
        },
    ),
    "maintenance": ({"open": forms.is_bool},),
    "config": (
        {
            "recipients": forms.is_texts,
            "opening": forms.is_one_of("any", "all"),
            "plan": forms.is_text,
            "suite": forms.is_int,
        },
    ),
}
"""Kind → the bodies it may have, each field → check. Each is complete: a field beside these is refused."""

_LINE: Final[Mapping[str, forms.Check]] = {
    "v": forms.is_one_of(1),
    "robot": is_name,
    "n": forms.is_int,
    "prev_hash": forms.is_hash,
    "boot_id": forms.is_boot,
    "wall": forms.is_int,
    "boottime": forms.is_int,
    "kind": forms.is_one_of(*BODIES),
    "body": lambda value: isinstance(value, dict),
    "next_pk": forms.is_text,
    "sig": forms.is_text,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of right form. `message`: what the signature covers, the label included."""

    robot: str
    n: int
    prev_hash: str
    boot_id: str
    wall: int
    boottime: int
    kind: str
    body: Mapping[str, Any]
    next_pk: bytes
    sig: bytes
    message: bytes


def parse_entry(line: bytes) -> Entry:
    """The entry that a line, without its newline, states; nothing of it is verified yet."""
    if len(line) > MAX_LEDGER_LINE_BYTES:
        raise FormatError(f"entry: more than {MAX_LEDGER_LINE_BYTES} bytes")
    found = forms.read_canonical(line, spaces=False)
    if tuple(found) != LEDGER_FIELDS:
        raise FormatError(f"entry: must be {', '.join(LEDGER_FIELDS)}, in this order")
    forms.require(found, _LINE, "entry")
    next_pk, sig = _bytes(found, "next_pk"), _bytes(found, "sig")
    _require_body(found["kind"], found["body"])
    return Entry(
        **{name: found[name] for name in LEDGER_FIELDS if name not in ("v", "next_pk", "sig")},
        next_pk=next_pk,
        sig=sig,
        message=LEDGER_LABEL + line[: line.rindex(LEDGER_SIG)],
    )


def _bytes(found: Mapping[str, Any], name: str) -> bytes:
    value = forms.as_bytes(found[name])
    if not value:
        raise FormatError(f"entry: {name} is wrong")
    return value


def _require_body(kind: str, body: Mapping[str, object]) -> None:
    bodies = BODIES[kind]
    fitting = next((fields for fields in bodies if fields.keys() == body.keys()), bodies[0])
    forms.require(body, fitting, kind)
