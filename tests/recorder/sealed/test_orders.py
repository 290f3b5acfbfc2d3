"""Orders: who may give them, for whom, and in what form; each thing wrong alone refuses one."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from agent.recorder.sealed.orders import MAX_ORDER_BYTES, MAX_SEGMENTS, Named, Office, OrderError
from tests.recorder.sealed import office
from tests.recorder.sealed.office import OFFICE, claims, token

SEGMENT = {"stream": "net", "segno": 1, "seal": "ab" * 32}


@pytest.mark.parametrize(
    ("kid", "key"),
    [("root", office.ROOT), ("dept", office.DEPARTMENT), ("dept-r1", office.STRANGER)],
)
def test_a_root_key_and_the_department_may_order(kid: str, key: Ed25519PrivateKey) -> None:
    order = OFFICE.read(signed := token(claims("delete", iss=kid), kid=kid, key=key), "delete")
    assert (order.kid, order.order, order.jti, order.reason) == (kid, "delete", "j1", "past its time")
    assert (order.segments, order.hold, order.token) == ((Named("net", 1, "ab" * 32),), "", signed)


def test_a_release() -> None:
    order = OFFICE.read(token(claims("release")), "release")
    assert (order.hold, order.segments) == ("h1", ())


@pytest.mark.parametrize(
    ("kid", "key", "code"),
    [
        ("guard", office.GUARDIAN, "not_entitled"),
        ("auth", office.AUTHORITY, "not_entitled"),
        ("far", office.ELSEWHERE, "not_entitled"),
        ("gone", office.REVOKED, "revoked"),
        ("nobody", office.STRANGER, "unknown_key"),
        ("dept", office.STRANGER, "bad_signature"),
        ("root", office.DEPARTMENT, "bad_signature"),
        ("r1", office.STRANGER, "unknown_key"),
    ],
)
def test_nobody_else_may(kid: str, key: Ed25519PrivateKey, code: str) -> None:
    with pytest.raises(OrderError) as caught:
        OFFICE.read(token(claims("delete", iss=kid), kid=kid, key=key), "delete")
    assert (caught.value.code, caught.value.kid) == (code, kid)


def test_without_a_trust_file_only_a_root_key_may() -> None:
    alone = Office("r1", OFFICE.roots, None)
    assert (
        alone.read(token(claims("delete", iss="root"), kid="root", key=office.ROOT), "delete").kid == "root"
    )
    with pytest.raises(OrderError, match="unknown_key"):
        alone.read(token(claims("delete")), "delete")


def wrong(**changes: object) -> dict[str, Any]:
    return claims("delete", **changes)


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (wrong(aud="r2"), "other_robot"),
        (wrong(aud="*"), "other_robot"),
        (wrong(aud=["r1"]), "other_robot"),
        (wrong(iss="root"), "malformed"),
        (wrong(order="release"), "malformed"),
        (wrong(iat="now"), "malformed"),
        (wrong(iat=True), "malformed"),
        (wrong(iat=-1), "malformed"),
        (wrong(jti=""), "malformed"),
        (wrong(jti=7), "malformed"),
        (wrong(reason=""), "malformed"),
        (wrong(reason="\x1b[2J"), "malformed"),
        (wrong(reason="x" * 501), "malformed"),
        (wrong(more=1), "malformed"),
        (claims("release"), "malformed"),
        (wrong(segments=[]), "malformed"),
        (wrong(segments=SEGMENT), "malformed"),
        (wrong(segments=[SEGMENT, SEGMENT]), "malformed"),
        (wrong(segments=[SEGMENT, SEGMENT | {"seal": "00" * 32}]), "malformed"),
        (wrong(segments=[SEGMENT | {"segno": 0}]), "malformed"),
        (wrong(segments=[SEGMENT | {"segno": True}]), "malformed"),
        (wrong(segments=[SEGMENT | {"segno": "1"}]), "malformed"),
        (wrong(segments=[SEGMENT | {"segno": 10**10}]), "malformed"),
        (wrong(segments=[SEGMENT | {"stream": "ledger"}]), "malformed"),
        (wrong(segments=[SEGMENT | {"stream": ["net"]}]), "malformed"),
        (wrong(segments=[SEGMENT | {"seal": "AB" * 32}]), "malformed"),
        (wrong(segments=[SEGMENT | {"more": 1}]), "malformed"),
        (wrong(segments=[{"stream": "net", "segno": 1}]), "malformed"),
        (wrong(segments=["net"]), "malformed"),
        ({name: value for name, value in wrong().items() if name != "iat"}, "malformed"),
    ],
)
def test_each_claim_alone_refuses(order: dict[str, Any], code: str) -> None:
    with pytest.raises(OrderError) as caught:
        OFFICE.read(token(order), "delete")
    assert (caught.value.code, caught.value.kid) == (code, "dept")


@pytest.mark.parametrize("hold", ["", "a b", "x" * 65, 7, None])
def test_a_hold_has_a_name(hold: object) -> None:
    with pytest.raises(OrderError, match="malformed"):
        OFFICE.read(token(claims("release", hold=hold)), "release")


@pytest.mark.parametrize("typ", ["warden-cmd+jwt", "warden-trust+jwt", "warden-witness+jwt", "JWT"])
def test_another_sort_of_token_is_no_order(typ: str) -> None:
    with pytest.raises(OrderError, match="malformed"):
        OFFICE.read(token(claims("delete"), typ=typ), "delete")


def rows(count: int) -> list[dict[str, object]]:
    return [{"stream": "safety", "segno": 10**9 + n, "seal": "ab" * 32} for n in range(count)]


def test_as_many_segments_as_fit_a_ledger_line() -> None:
    signed = token(claims("delete", segments=rows(MAX_SEGMENTS), reason="x" * 500))
    assert len(OFFICE.read(signed, "delete").segments) == MAX_SEGMENTS
    assert len(signed) <= MAX_ORDER_BYTES
    body = json.dumps({"order": signed, "segments": rows(MAX_SEGMENTS)}, separators=(",", ":"))
    assert len(body) < 65_536 - 1_000
    with pytest.raises(OrderError, match="malformed"):
        OFFICE.read(token(claims("delete", segments=rows(MAX_SEGMENTS + 1))), "delete")


def test_size_is_looked_at_before_anything_else() -> None:
    with pytest.raises(OrderError, match="too_large"):
        OFFICE.read("x" * (MAX_ORDER_BYTES + 1), "delete")


def test_an_order_has_no_end() -> None:
    """It names seals, and each goes only once; the day it is carried out is nobody's secret."""
    for iat in (0, 1.5, 2**53 - 1):
        assert OFFICE.read(token(claims("delete", iat=iat)), "delete").jti == "j1"


@given(st.text(max_size=200))
def test_no_text_is_more_than_refused(text: str) -> None:
    with pytest.raises(OrderError):
        OFFICE.read(text, "delete")


@given(st.binary(min_size=1, max_size=3), st.integers(0, 400))
def test_a_changed_token_is_refused(change: bytes, at: int) -> None:
    signed = token(claims("delete"))
    changed = signed[:at] + change.hex() + signed[at + len(change.hex()) :]
    if changed != signed:
        with pytest.raises(OrderError):
            OFFICE.read(changed, "delete")
