"""People who give orders and witnesses who say the time, as the tests of retention need them."""

from collections.abc import Mapping
from datetime import date

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.core.trust import ALL, Person, Role, Trust
from agent.recorder.sealed.orders import Named, Office
from agent.tokens import raw_public_key, sign

ROBOT = "r1"
ROOT, DEPARTMENT, GUARDIAN, AUTHORITY, REVOKED, ELSEWHERE, WITNESS, STRANGER = (
    Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in range(1, 9)
)
_PEOPLE = (
    ("dept", Role.DEPARTMENT, DEPARTMENT, ALL, False),
    ("dept-r1", Role.DEPARTMENT, STRANGER, frozenset({ROBOT}), False),
    ("guard", Role.GUARDIAN, GUARDIAN, ALL, False),
    ("auth", Role.AUTHORITY, AUTHORITY, ALL, False),
    ("gone", Role.DEPARTMENT, REVOKED, ALL, True),
    ("far", Role.DEPARTMENT, ELSEWHERE, frozenset({"r2"}), False),
)


def trust() -> Trust:
    people = {
        kid: Person(kid, kid, role, raw_public_key(key), robots, date(2020, 1, 1), revoked)
        for kid, role, key, robots, revoked in _PEOPLE
    }
    return Trust(1, 0.0, people, {}, {})


OFFICE = Office(ROBOT, {"root": raw_public_key(ROOT)}, trust())
WITNESSES = {"w": raw_public_key(WITNESS)}


def claims(order: str, /, **changes: object) -> dict[str, object]:
    named = (
        {"segments": [{"stream": "net", "segno": 1, "seal": "ab" * 32}]}
        if order == "delete"
        else {"hold": "h1"}
    )
    common = {
        "iss": "dept",
        "aud": ROBOT,
        "iat": 1_800_000_000,
        "jti": "j1",
        "order": order,
        "reason": "past its time",
    }
    return {**common, **named, **changes}


def token(
    order: Mapping[str, object],
    *,
    kid: str = "dept",
    key: Ed25519PrivateKey = DEPARTMENT,
    typ: str = "warden-order+jwt",
) -> str:
    return sign(order, key=key, kid=kid, typ=typ)


def deletion(*segments: Named) -> str:
    return token(claims("delete", segments=[named.as_dict() for named in segments]))


def receipt(
    witness_time: int,
    *,
    key: Ed25519PrivateKey = WITNESS,
    kid: str = "w",
    robot: str = ROBOT,
    n: int = 0,
    digest: str = "cd" * 32,
) -> dict[str, object]:
    """Body of a `witness.ack`."""
    said = {"n": n, "hash": digest, "witness_time": witness_time}
    told = {"iss": kid, "aud": robot, "iat": witness_time, **said}
    return {"kid": kid, **said, "token": sign(told, key=key, kid=kid, typ="warden-witness+jwt")}
