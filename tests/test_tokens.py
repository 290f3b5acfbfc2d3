"""Signed tokens and key files: what is refused, and that nothing secret is said (PROTOCOL 3)."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from agent import tokens
from agent.core.trust import encode_base64url
from agent.tokens import TokenError

KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"\x08" * 32)
KEYS = {"g.li": tokens.raw_public_key(KEY)}
CLAIMS = {"iss": "g.li", "cmd": "stop", "args": {"reason": "有人"}}


def make(claims: Mapping[str, object] = CLAIMS, *, key: Ed25519PrivateKey = KEY, kid: str = "g.li") -> bytes:
    return tokens.sign(claims, key=key, kid=kid, typ=tokens.COMMAND).encode()


def check(token: bytes, **options: Any) -> tokens.Verified:  # noqa: ANN401 - handed on
    return tokens.verify(token, **{"typ": tokens.COMMAND, "key_of": KEYS.get, **options})


def refused(token: bytes, **options: Any) -> TokenError:  # noqa: ANN401 - handed on
    with pytest.raises(TokenError) as caught:
        check(token, **options)
    assert str(caught.value) == f"{caught.value.code}: {caught.value.reason}"
    return caught.value


def by_hand(header: object, payload: bytes = b"{}", *, key: Ed25519PrivateKey = KEY) -> bytes:
    """A token with any header and payload at all, well signed."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = f"{encode_base64url(raw)}.{encode_base64url(payload)}".encode()
    return body + b"." + encode_base64url(key.sign(body)).encode()


HEADER = {"alg": "EdDSA", "kid": "g.li", "typ": tokens.COMMAND}


def test_what_is_signed_is_verified() -> None:
    verified = check(make())

    assert verified.kid == "g.li"
    assert verified.claims == CLAIMS


def test_any_jwt_library_understands_the_tokens() -> None:
    token = make()

    assert jwt.get_unverified_header(token) == HEADER
    assert jwt.decode(token, KEY.public_key(), algorithms=["EdDSA"]) == CLAIMS
    assert check(jwt.encode(dict(CLAIMS), KEY, "EdDSA", headers=HEADER).encode()).claims == CLAIMS


def test_a_token_is_refused_for_its_size_before_all_else() -> None:
    token = make()

    assert check(token, max_bytes=len(token)).kid == "g.li"
    error = refused(token, max_bytes=len(token) - 1)
    assert (error.code, error.kid, error.authentic) == ("too_large", None, False)
    assert refused(b"\xff" * (tokens.MAX_TOKEN_BYTES + 1)).code == "too_large"
    assert refused(b"\xff" * tokens.MAX_TOKEN_BYTES).code == "malformed"


SHAPES = [
    b"",
    b".",
    b"..",
    b"a.b.c",
    b"\xff\xfe",
    "一.二.三".encode(),
    make() + b"\n",
    b" " + make(),
    make() + b"=",
    make() + b".AAAA",
    make().replace(b".", b"..", 1),
    b"." + make().split(b".", 1)[1],
    make().rsplit(b".", 1)[0] + b".",
    make().rsplit(b".", 1)[0],
    make()[:-1],
]


@pytest.mark.parametrize("token", SHAPES)
def test_what_is_not_a_compact_token_is_malformed(token: bytes) -> None:
    error = refused(token)

    assert (error.code, error.kid, error.authentic) == ("malformed", None, False)


HEADERS: list[object] = [
    b"not json",
    b"\xff",
    b"[" * 20000,
    [],
    "EdDSA",
    {},
    {"alg": "EdDSA", "typ": tokens.COMMAND},
    {**HEADER, "kid": 5},
    {**HEADER, "kid": None},
    {**HEADER, "kid": ""},
    {**HEADER, "kid": "x" * 65},
    {**HEADER, "kid": "../root"},
    {"alg": "EdDSA", "kid": "g.li"},
    {"kid": "g.li", "typ": tokens.COMMAND},
    {**HEADER, "typ": tokens.STATE},
    {**HEADER, "typ": "JWT"},
    {**HEADER, "typ": None},
    {**HEADER, "typ": [tokens.COMMAND]},
    {**HEADER, "alg": "none"},
    {**HEADER, "alg": "HS256"},
    {**HEADER, "alg": "Ed25519"},
    {**HEADER, "alg": "eddsa"},
    {**HEADER, "alg": ["EdDSA"]},
    {**HEADER, "crit": ["b64"], "b64": True},
    {**HEADER, "crit": ["b64"], "b64": False},
    {**HEADER, "crit": []},
    {**HEADER, "b64": True},
    {**HEADER, "jwk": {}},
    {**HEADER, "jku": "https://keys.example"},
    {**HEADER, "cty": "JWT"},
]


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_holds_three_fields_and_nothing_else(header: object) -> None:
    """All of these are well signed: the header alone is at fault."""
    error = refused(by_hand(header))

    assert (error.code, error.authentic) == ("malformed", False)


def test_an_hmac_under_the_public_key_is_not_a_signature() -> None:
    body = f"{encode_base64url(json.dumps({**HEADER, 'alg': 'HS512'}).encode())}.e30".encode()
    forged = jwt.api_jws.PyJWS().get_algorithm_by_name("HS512").sign(body, KEYS["g.li"])

    assert refused(body + b"." + encode_base64url(forged).encode()).code == "malformed"


def test_an_unknown_key_comes_before_its_signature() -> None:
    error = refused(make(key=OTHER, kid="g.wang"))

    assert (error.code, error.kid, error.authentic) == ("unknown_key", "g.wang", False)


def test_a_signature_of_another_key_is_bad() -> None:
    error = refused(make(key=OTHER))

    assert (error.code, error.kid, error.authentic) == ("bad_signature", "g.li", False)


def test_claims_are_only_read_after_the_signature() -> None:
    token = by_hand(HEADER, b"not json", key=OTHER)

    assert refused(token).code == "bad_signature"


@given(place=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_no_bit_of_a_token_can_be_changed(place: int, bit: int) -> None:
    token = bytearray(make())
    token[place % len(token)] ^= 1 << bit

    assert refused(bytes(token)).code in {"malformed", "unknown_key", "bad_signature"}


PAYLOADS = [
    b"not json",
    b"\xff",
    b"[]",
    b'"text"',
    b"null",
    b'{"a": NaN}',
    b'{"a": Infinity}',
    b'{"a": -Infinity}',
    b'{"a": 1e999}',
    b'{"a": ' + b"9" * 5000 + b"}",
    b'{"a": 1, "a": 2}',
    b'{"a": {"b": 1, "b": 1}}',
    b'{"a": "\\ud800"}',
    b'{"\\ud800": 1}',
    b'{"a": ' * 40000,
    b'{"a": ' + b"[" * 16 + b"]" * 16 + b"}",
    b'{"a": 1} ' + b"{}",
]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_claims_are_a_plain_json_object(payload: bytes) -> None:
    error = refused(by_hand(HEADER, payload), max_bytes=1_000_000)

    assert (error.code, error.kid, error.authentic) == ("malformed", "g.li", True)


def test_an_empty_payload_is_malformed() -> None:
    assert refused(by_hand(HEADER, b"")).code == "malformed"


def test_claims_may_be_as_deep_as_the_bound() -> None:
    deepest = b'{"after_s": 1.5, "a": ' + b"[" * 15 + b"]" * 15 + b"}"

    assert check(by_hand(HEADER, deepest)).claims["after_s"] == 1.5


def test_nothing_is_signed_that_json_cannot_carry() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        make({"a": float("nan")})


@given(st.binary(max_size=300))
def test_whatever_arrives_only_a_token_error_comes_of_it(data: bytes) -> None:
    with suppress(TokenError):
        check(data)
        pytest.fail("noise was verified")


def test_a_jti_is_new_each_time() -> None:
    jtis = {tokens.new_jti() for _ in range(100)}

    assert len(jtis) == 100
    assert {len(jti) for jti in jtis} == {32}
