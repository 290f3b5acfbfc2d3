"""`guardian order`: the department signs what may be deleted from a robot's log, or the release of a hold.

The token is `warden-order+jwt` (README of agent/logformat, "Orders"). The robot judges it again; what it
would refuse for sure is not signed in the first place.
"""

import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.core.trust import Person, Role, Trust, is_name
from agent.logformat.draft import (
    DRAFT_FIELDS,
    MAX_DRAFT_BYTES,
    MAX_ORDER_BYTES,
    MAX_ORDER_REASON,
    MAX_ORDER_SEGMENTS,
    SEGMENT_FIELDS,
)
from agent.logformat.layout import ORDER_TYP, STREAMS
from agent.tokens import load_private_key, load_roots, load_trust, new_jti, raw_public_key, read_object, sign
from console.errors import REFUSED, ConsoleError
from console.profile import Profile

DELETE: Final = "delete"
RELEASE: Final = "release"
MAX_SEGNO: Final = 10**10 - 1
"""A segment's file name has ten digits."""
_SEAL: Final = re.compile(r"[0-9a-f]{64}")
_HOLD: Final = re.compile(r"[!-~]{1,64}")


class DraftError(ConsoleError):
    """A draft that is not signed. `source`: the file or option; `key`: where in it; `bound`: the rule."""

    exit_code = REFUSED

    def __init__(self, source: str, key: str, bound: str) -> None:
        super().__init__(": ".join(part for part in (source, key, bound) if part))
        self.source = source
        self.key = key
        self.bound = bound


class SignerError(ConsoleError):
    """Somebody whose order no robot would carry out. `kid`: of the profile; `bound`: what it must be."""

    exit_code = REFUSED

    def __init__(self, kid: str, bound: str) -> None:
        super().__init__(f"{kid}: {bound}")
        self.kid = kid
        self.bound = bound


class OrderFileError(ConsoleError):
    """A file that cannot be read or made. `path`: the file; `bound`: why, in words."""

    def __init__(self, path: Path, bound: str) -> None:
        super().__init__(f"{path}: {bound}")
        self.path = path
        self.bound = bound


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be signed. `segments`: (stream, segno, seal) of a deletion; `hold`: id of one to release."""

    robot: str
    reason: str
    segments: tuple[tuple[str, int, str], ...] = ()
    hold: str = ""

    @property
    def kind(self) -> str:
        """The claim `order`."""
        return DELETE if self.segments else RELEASE

    def claims(self) -> dict[str, object]:
        """What it says of itself; who signs it, and when, comes with the signature."""
        rows = [{"stream": stream, "segno": segno, "seal": seal} for stream, segno, seal in self.segments]
        subject: dict[str, object] = {"segments": rows} if self.segments else {"hold": self.hold}
        return {"aud": self.robot, "order": self.kind, **subject, "reason": self.reason}

    def lines(self) -> Iterator[str]:
        """For the person who is about to sign it."""
        if self.segments:
            count = len(self.segments)
            yield f"{self.robot}: 删除 DELETE for good: {count} 个日志段 segments of the log"
        else:
            yield f"{self.robot}: 解除保留 RELEASE the hold {self.hold}: its records may be deleted when due"
        for stream in STREAMS:
            numbers = sorted(segno for name, segno, _ in self.segments if name == stream)
            if numbers:
                yield f"  {stream}: {len(numbers)} 个 segments, {_ranges(numbers)}"
        yield f"  理由 reason: {self.reason}"


def _ranges(numbers: list[int]) -> str:
    """`1 to 3, 5`: gaps show, since what lies between is not ordered."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in spans)


# ---- what is to be signed


def read_draft(path: Path) -> Order:
    """The order that a draft of `warden log due` states; OrderFileError, or DraftError at the first fault."""
    try:
        found = read_object(_read(path))
    except (ValueError, RecursionError) as error:
        raise DraftError(
            str(path), "", f"must be the draft that `warden log due` wrote: {_short(error)}"
        ) from None
    _only(path, "draft", found, DRAFT_FIELDS)
    if not is_name(found["robot"]):
        raise DraftError(str(path), "robot", "must be 1 to 64 of A-Z a-z 0-9 _ . : -")
    if found["order"] != DELETE:
        raise DraftError(str(path), "order", f'must be "{DELETE}"')
    reason = check_reason(found["reason"], str(path), "reason")
    return Order(found["robot"], reason, tuple(_segments(path, found["segments"])))


def _short(error: BaseException) -> str:
    # A decoder's message may quote what it read, which is somebody's text on its way to a terminal.
    return ascii(str(error))[1:-1][:80]


def _read(path: Path) -> bytes:
    try:
        # O_NONBLOCK: the open of a FIFO put in a draft's place would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OrderFileError(path, "must be a regular file")
            data = file.read(MAX_DRAFT_BYTES + 1)
    except OSError as error:
        raise OrderFileError(path, f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_DRAFT_BYTES:
        raise DraftError(str(path), "", f"is larger than {MAX_DRAFT_BYTES} bytes")
    return data


def _only(path: Path, where: str, row: Mapping[str, Any], fields: frozenset[str]) -> None:
    for field in sorted(fields - row.keys()):
        raise DraftError(str(path), where, f"{field} is missing")
    for field in sorted(row.keys() - fields):
        raise DraftError(str(path), where, f"{field[:40]!a} is not known here")


def check_reason(value: object, source: str, key: str = "") -> str:
    """A reason as it goes into the order; DraftError for what is no text, too long or not printable."""
    if not isinstance(value, str) or len(value) > MAX_ORDER_REASON or not value.isprintable():
        raise DraftError(source, key, f"must be at most {MAX_ORDER_REASON} printable characters")
    return value.strip()


def _segments(path: Path, rows: object) -> Iterator[tuple[str, int, str]]:
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_ORDER_SEGMENTS:
        raise DraftError(str(path), "segments", f"must be a list of 1 to {MAX_ORDER_SEGMENTS}")
    seen: set[tuple[str, int]] = set()
    for index, row in enumerate(rows):
        where = f"segments[{index}]"
        stream, segno, seal = _segment(path, where, row)
        if (stream, segno) in seen:
            raise DraftError(str(path), where, f"{stream} {segno} comes twice")
        seen.add((stream, segno))
        yield stream, segno, seal


def _segment(path: Path, where: str, row: object) -> tuple[str, int, str]:
    if not isinstance(row, dict):
        raise DraftError(str(path), where, "must be an object")
    _only(path, where, row, SEGMENT_FIELDS)
    stream, segno, seal = row["stream"], row["segno"], row["seal"]
    if stream not in STREAMS:
        raise DraftError(str(path), f"{where}.stream", f"must be one of {', '.join(STREAMS)}")
    if type(segno) is not int or not 1 <= segno <= MAX_SEGNO:
        raise DraftError(str(path), f"{where}.segno", f"must be a whole number from 1 to {MAX_SEGNO}")
    if not isinstance(seal, str) or not _SEAL.fullmatch(seal):
        raise DraftError(str(path), f"{where}.seal", "must be 64 of 0-9 a-f")
    return stream, segno, seal


def release_of(robot: str, hold: str) -> Order:
    """The order that ends a hold; DraftError for what can be no id of one."""
    if not _HOLD.fullmatch(hold):
        raise DraftError("--release", "", "must be the id of a hold, 1 to 64 printable ASCII characters")
    return Order(robot, "", hold=hold)


# ---- signing


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs; made by `load_signer` once it is known that robots would take the order."""

    kid: str
    key: Ed25519PrivateKey
    trust: Trust

    def sign(self, order: Order) -> tuple[str, str]:
        """The token, and its `jti`."""
        jti = new_jti()
        claims = {"iss": self.kid, "iat": int(time.time()), "jti": jti, **order.claims()}
        return sign(claims, key=self.key, kid=self.kid, typ=ORDER_TYP), jti


def load_signer(profile: Profile, robot: str) -> Signer:
    """The profile's person, by its trust file; SignerError unless that is the department or a root key.

    Raises KeyFileError and TrustFileError for files that cannot be used.
    """
    key = load_private_key(profile.signing_key)
    roots = load_roots(profile.root_keys)
    trust = load_trust(profile.trust, roots)
    if raw_public_key(key) != roots.get(profile.kid, trust.person_key(profile.kid)):
        raise SignerError(
            profile.kid, "密钥不符 the signing key is not the trust file's, nor a root's, for this kid"
        )
    if profile.kid not in roots:
        _entitled(trust.people[profile.kid], robot)
    return Signer(profile.kid, key, trust)


def _entitled(person: Person, robot: str) -> None:
    if person.role is not Role.DEPARTMENT:
        raise SignerError(person.kid, "无权签发 only the department's people and root keys sign orders")
    if person.revoked:
        raise SignerError(person.kid, "密钥已吊销 is revoked in the trust file")
    if not person.serves(robot):
        raise SignerError(person.kid, f"无权签发 does not serve the robot {robot}, by the trust file")


def sign_order(
    order: Order,
    out: Path,
    *,
    profile: Profile,
    reason: str | None,
    show: Callable[[str], None],
    agreed: Callable[[], bool],
) -> dict[str, object]:
    """Shows the order, asks, signs, and writes it to the new file `out`; what was done, JSON-able.

    `reason`: in place of the draft's; `agreed`: asks the person. ConsoleError, KeyFileError, TrustFileError.
    """
    if out.exists():
        raise OrderFileError(out, "is there already: an order replaces none")
    signer = load_signer(profile, order.robot)
    order = replace(order, reason=check_reason(order.reason if reason is None else reason, "--reason"))
    if not order.reason:
        raise DraftError("--reason", "", "say why, for the record: no robot takes an order without a reason")
    for line in order.lines():
        show(line)
    if order.robot not in signer.trust.robots:
        show(f"  注意 warning: 信任文件中没有该机器人 the trust file names no robot {order.robot}")
    if not agreed():
        raise OrderFileError(out, "未签发 not signed, nothing was written")
    token, jti = signer.sign(order)
    if len(token) > MAX_ORDER_BYTES:
        raise DraftError("--reason", "", f"must be shorter: the order would be over {MAX_ORDER_BYTES} bytes")
    _write(out, token)
    subject: dict[str, object] = {"segments": len(order.segments)} if order.segments else {"hold": order.hold}
    about = {"robot": order.robot, "order": order.kind, **subject, "reason": order.reason}
    return {**about, "kid": signer.kid, "jti": jti, "file": str(out)}


def _write(path: Path, token: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(token + "\n")
    except OSError as error:
        raise OrderFileError(path, f"cannot be written: {error.strerror}") from None
