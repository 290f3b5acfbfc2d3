"""Orders of the department: to delete segments, to release a hold (README of agent/logformat, "Orders").

Checked as every token is: size, header, key known, signature; only then who signed, for whom, and what.
An order has no end: it names segments by their seals and a hold by its id, and each of them goes only once.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.core.trust import Role, Trust
from agent.errors import WardenError
from agent.logformat.layout import ORDER_TYP, STREAMS
from agent.tokens import TokenError, Verified, verify

MAX_ORDER_BYTES: Final = 32_768
MAX_SEGMENTS: Final = 200
"""In one order: it and its list must fit one ledger line."""
MAX_TEXT: Final = 500
"""Characters of a reason."""

_COMMON: Final = frozenset({"iss", "aud", "iat", "jti", "order", "reason"})
_OBJECT: Final = {"delete": "segments", "release": "hold"}
"""Order → the claim that says of what."""
_SEAL: Final = re.compile(r"[0-9a-f]{64}")
_ID: Final = re.compile(r"[!-~]{1,64}")


class OrderError(WardenError):
    """An order that is refused.

    `code`: a TokenError's (too_large, malformed, unknown_key, bad_signature), or not_entitled, revoked,
    other_robot; `kid`: who signed or claims to have, None when that could not be read.
    """

    def __init__(self, code: str, reason: str, kid: str | None) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
        self.kid = kid


@dataclass(frozen=True, slots=True)
class Named:
    """A segment as an order names it; `seal`: its seal hash, hexadecimal."""

    stream: str
    segno: int
    seal: str

    def as_dict(self) -> dict[str, object]:
        """As it stands in orders and in the ledger."""
        return {"stream": self.stream, "segno": self.segno, "seal": self.seal}


@dataclass(frozen=True, slots=True)
class Order:
    """A good order. `segments` of one to delete, `hold` of one to release; `token`: the whole of it."""

    kid: str
    jti: str
    order: str
    segments: tuple[Named, ...]
    hold: str
    reason: str
    token: str


@dataclass(frozen=True, slots=True)
class Office:
    """Who may order deletions for this robot. `roots`: kid → Ed25519 public key; `trust`: the newest."""

    robot: str
    roots: Mapping[str, bytes]
    trust: Trust | None

    def read(self, token: str, order: str) -> Order:
        """The order of this sort (`delete`, `release`) in a token; OrderError for any other."""
        try:
            data = token.encode("utf-8", "replace")
            verified = verify(data, typ=ORDER_TYP, key_of=self._key, max_bytes=MAX_ORDER_BYTES)
        except TokenError as error:
            raise OrderError(error.code, error.reason, error.kid) from None
        self._entitled(verified.kid)
        return _typed(verified, order, self.robot, token)

    def _key(self, kid: str) -> bytes | None:
        if kid in self.roots:
            return self.roots[kid]
        return self.trust.person_key(kid) if self.trust else None

    def _entitled(self, kid: str) -> None:
        if kid in self.roots or self.trust is None:
            return
        person = self.trust.people[kid]
        if person.role is not Role.DEPARTMENT or not person.serves(self.robot):
            raise OrderError("not_entitled", f"{kid} is not this robot's department", kid)
        if person.revoked:
            raise OrderError("revoked", f"{kid}'s right was taken back", kid)


def _typed(verified: Verified, order: str, robot: str, token: str) -> Order:
    kid, claims = verified.kid, verified.claims

    def need(good: bool, reason: str, code: str = "malformed") -> None:
        if not good:
            raise OrderError(code, reason, kid)

    need(claims.get("order") == order, f"order must be {order}")
    need(claims.keys() == _COMMON | {_OBJECT[order]}, f"claims must be {_OBJECT[order]} and the common ones")
    need(claims["iss"] == kid, "iss must be the kid that signed")
    need(claims["aud"] == robot, f"is for {str(claims['aud'])[:64]!a}", "other_robot")
    need(_is_time(claims["iat"]), "iat must be seconds since 1970")
    need(_is_id(claims["jti"]), "jti must be 1 to 64 printable ASCII characters")
    need(_is_reason(claims["reason"]), f"reason must be 1 to {MAX_TEXT} printable characters")
    named = claims[_OBJECT[order]]
    good = _segments_good(named) if order == "delete" else is_hold_id(named)
    need(good, f"{_OBJECT[order]}: not as it must be")
    segments = tuple(Named(**row) for row in named) if order == "delete" else ()
    hold = named if order == "release" else ""
    return Order(kid, claims["jti"], order, segments, hold, claims["reason"], token)


def is_hold_id(value: object) -> bool:
    """1 to 64 printable ASCII characters, no space."""
    return _is_id(value)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _is_reason(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= MAX_TEXT and value.isprintable()


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53


def _segments_good(value: object) -> bool:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_SEGMENTS or not all(map(_is_named, value)):
        return False
    return len({(row["stream"], row["segno"]) for row in value}) == len(value)


def _is_named(row: Any) -> bool:  # noqa: ANN401 - whatever JSON holds
    return (
        isinstance(row, dict)
        and row.keys() == {"stream", "segno", "seal"}
        and row["stream"] in STREAMS
        and type(row["segno"]) is int
        and 1 <= row["segno"] < 10**10
        and isinstance(row["seal"], str)
        and _SEAL.fullmatch(row["seal"]) is not None
    )
