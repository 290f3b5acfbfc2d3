"""Who is trusted: the signed trust file is taken whole or not at all (PROTOCOL 3)."""

import copy
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.trust import (
    ALL,
    Role,
    TrustError,
    china_date,
    decode_base64url,
    encode_base64url,
    is_name,
    parse_jwk,
    parse_trust,
)

JUNE_30_NOON_CST_S = 1_782_792_000.0
"""2026-06-30 04:00 UTC, which is noon in Shenzhen."""


def jwk(fill: int, **more: str) -> dict[str, str]:
    return {"kty": "OKP", "crv": "Ed25519", "x": encode_base64url(bytes([fill]) * 32), **more}


def claims() -> dict[str, Any]:
    """A trust file with two guardians, a department and two robots, all in order."""
    person = {"role": "guardian", "trained_until": "2026-06-30", "revoked": False}
    return {
        "iss": "root",
        "aud": "*",
        "iat": 1_780_000_000,
        "version": 3,
        "people": [
            {**person, "kid": "g.li", "name": "李明", "key": jwk(1, kid="g.li"), "robots": ["R1"]},
            {
                **person,
                "kid": "g.wang",
                "name": "王芳",
                "key": jwk(2),
                "robots": ["R1", "R2"],
                "revoked": True,
            },
            {**person, "kid": "d.chen", "name": "陈", "key": jwk(3), "robots": "*", "role": "department"},
        ],
        "robots": [
            {"id": "R1", "name": "福小安", "key": jwk(11, kid="R1")},
            {"id": "R2", "name": "福小宁", "key": jwk(12)},
        ],
        "groups": {"hall": ["R1"], "empty": []},
    }


def test_reads_a_file_that_is_in_order() -> None:
    trust = parse_trust(claims())

    assert (trust.version, trust.issued_s) == (3, 1_780_000_000.0)
    assert set(trust.people) == {"g.li", "g.wang", "d.chen"}
    li = trust.people["g.li"]
    assert (li.name, li.role, li.key, li.robots) == ("李明", Role.GUARDIAN, b"\x01" * 32, frozenset({"R1"}))
    assert (li.trained_until, li.revoked) == (date(2026, 6, 30), False)
    assert trust.people["g.wang"].revoked is True
    assert trust.people["d.chen"].robots == ALL
    assert trust.robots["R2"].key == b"\x0c" * 32


def test_keys_are_found_by_kid_and_never_across_people_and_robots() -> None:
    trust = parse_trust(claims())

    assert trust.person_key("g.li") == b"\x01" * 32
    assert trust.person_key("g.wang") == b"\x02" * 32, (
        "a revoked key is known, so that it can be refused by name"
    )
    assert trust.person_key("R1") is None
    assert trust.person_key("nobody") is None
    assert trust.robot_key("R1") == b"\x0b" * 32
    assert trust.robot_key("g.li") is None


def test_all_is_the_group_of_every_robot() -> None:
    trust = parse_trust(claims())

    assert trust.groups_of("R1") == {"hall", "all"}
    assert trust.groups_of("R2") == {"all"}
    assert trust.members("all") == {"R1", "R2"}
    assert trust.members("hall") == {"R1"}
    assert trust.members("nowhere") == frozenset()
    assert parse_trust(claims() | {"groups": {"all": ["R2", "R1"], **claims()["groups"]}}) == trust


def test_a_person_serves_the_robots_given_or_all() -> None:
    people = parse_trust(claims()).people

    assert people["g.li"].serves("R1")
    assert not people["g.li"].serves("R2")
    assert people["d.chen"].serves("R2")
    assert people["d.chen"].serves("R99")


def test_training_holds_to_the_end_of_its_last_day_in_shenzhen() -> None:
    li = parse_trust(claims()).people["g.li"]
    midnight_s = JUNE_30_NOON_CST_S + 12 * 3600

    assert china_date(JUNE_30_NOON_CST_S) == date(2026, 6, 30)
    assert li.trained(JUNE_30_NOON_CST_S)
    assert li.trained(midnight_s - 0.001)
    assert not li.trained(midnight_s)


def set_at(*path: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    def change(value: dict[str, Any]) -> None:
        where: Any = value
        for step in path[:-1]:
            where = where[step]
        where[path[-1]] = to

    return change


def drop(*path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(value: dict[str, Any]) -> None:
        where: Any = value
        for step in path[:-1]:
            where = where[step]
        del where[path[-1]]

    return change


BROKEN: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    (drop("version"), "claims.version"),
    (drop("iss"), "claims.iss"),
    (set_at("extra", to=1), "claims.'extra'"),
    (set_at("iss", to="a b"), "iss"),
    (set_at("aud", to="R1"), "aud"),
    (set_at("iat", to="now"), "iat"),
    (set_at("iat", to=-1), "iat"),
    (set_at("iat", to=True), "iat"),
    (set_at("iat", to=float("inf")), "iat"),
    (set_at("iat", to=float("nan")), "iat"),
    (set_at("version", to=0), "version"),
    (set_at("version", to=2**53 + 1), "version"),
    (set_at("version", to=True), "version"),
    (set_at("version", to=1.0), "version"),
    (set_at("people", to={}), "people"),
    (set_at("people", to=[1]), "people[0]"),
    (set_at("people", to=[{}] * 513), "people"),
    (drop("people", 1, "trained_until"), "people[1].trained_until"),
    (set_at("people", 0, "trained_until", to="30.06.2026"), "people[0].trained_until"),
    (set_at("people", 0, "trained_until", to="2026-02-30"), "people[0].trained_until"),
    (set_at("people", 0, "trained_until", to="20260630"), "people[0].trained_until"),
    (set_at("people", 0, "trained_until", to=20260630), "people[0].trained_until"),
    (set_at("people", 0, "sudo", to=True), "people[0].'sudo'"),
    (set_at("people", 0, "kid", to="x" * 65), "people[0].kid"),
    (set_at("people", 0, "kid", to="g.li\n"), "people[0].kid"),
    (set_at("people", 1, "kid", to="g.li"), "people[1].kid"),
    (set_at("people", 0, "name", to=""), "people[0].name"),
    (set_at("people", 0, "name", to="x" * 65), "people[0].name"),
    (set_at("people", 0, "name", to="\x1b[2J"), "people[0].name"),
    (set_at("people", 0, "role", to="robot"), "people[0].role"),
    (set_at("people", 0, "role", to=["guardian"]), "people[0].role"),
    (set_at("people", 0, "revoked", to=0), "people[0].revoked"),
    (set_at("people", 0, "robots", to="R1"), "people[0].robots"),
    (set_at("people", 0, "robots", to=["R1", "R9"]), "people[0].robots[1]"),
    (set_at("people", 0, "robots", to=[["R1"]]), "people[0].robots[0]"),
    (set_at("people", 0, "robots", to=["*", "R1"]), "people[0].robots[0]"),
    (set_at("people", 0, "key", to="AAAA"), "people[0].key"),
    (set_at("people", 0, "key", to=jwk(1, kid="other")), "people[0].key.kid"),
    (set_at("people", 0, "key", to=jwk(1, d="AAAA")), "people[0].key.d"),
    (set_at("people", 0, "key", to=jwk(1, alg="none")), "people[0].key.'alg'"),
    (set_at("people", 0, "key", "kty", to="RSA"), "people[0].key"),
    (set_at("people", 0, "key", "crv", to="X25519"), "people[0].key"),
    (set_at("people", 0, "key", "x", to="AAAA"), "people[0].key.x"),
    (set_at("people", 0, "key", "x", to=5), "people[0].key.x"),
    (drop("people", 0, "key", "x"), "people[0].key.x"),
    (set_at("people", 0, "key", to=jwk(2)), "keys"),
    (set_at("people", 0, "key", to=jwk(12)), "keys"),
    (set_at("robots", 1, "key", to=jwk(11)), "keys"),
    (set_at("robots", 1, "id", to="R1"), "robots[1].id"),
    (set_at("robots", 1, "id", to="*"), "robots[1].id"),
    (set_at("robots", 0, "key", to=jwk(11, kid="R2")), "robots[0].key.kid"),
    (set_at("robots", 0, "role", to="guardian"), "robots[0].'role'"),
    (set_at("robots", to=None), "robots"),
    (set_at("groups", to=[]), "groups"),
    (set_at("groups", "all", to=["R1"]), "groups.all"),
    (set_at("groups", to={f"g{number}": [] for number in range(513)}), "groups"),
    (set_at("groups", "ha ll", to=["R1"]), "groups"),
    (set_at("groups", "hall", to=["R3"]), "groups.hall[0]"),
    (set_at("groups", "hall", to="R1"), "groups.hall"),
]


@pytest.mark.parametrize(("change", "key"), BROKEN)
def test_a_broken_rule_is_named(change: Callable[[dict[str, Any]], None], key: str) -> None:
    broken = claims()
    change(broken)

    with pytest.raises(TrustError) as caught:
        parse_trust(broken)

    assert caught.value.key == key
    assert caught.value.bound
    assert str(caught.value) == f"{key}: {caught.value.bound}"


WHOLE: list[Callable[[dict[str, Any]], None]] = [
    set_at("version", to=1),
    set_at("version", to=2**53),
    set_at("iat", to=0),
    set_at("iat", to=2.0**53),
    set_at("people", 0, "name", to="x"),
    set_at("people", 0, "name", to="x" * 64),
    set_at("robots", 0, "name", to="x" * 64),
    set_at("people", 0, "robots", to=["*"]),
    set_at("groups", to={f"g{number}": ["R1"] for number in range(512)}),
]


@pytest.mark.parametrize("change", WHOLE)
def test_the_ends_of_the_ranges_are_inside(change: Callable[[dict[str, Any]], None]) -> None:
    whole = claims()
    change(whole)

    assert set(parse_trust(whole).robots) == {"R1", "R2"}


def test_a_kid_may_not_be_a_persons_and_a_robots() -> None:
    broken = claims()
    broken["people"][0] |= {"kid": "R1", "key": jwk(1)}

    with pytest.raises(TrustError, match='"R1" is a person'):
        parse_trust(broken)


def test_the_claims_are_not_changed_by_reading() -> None:
    given_claims = claims()
    before = copy.deepcopy(given_claims)

    parse_trust(given_claims)

    assert given_claims == before


def test_a_private_key_in_a_trust_file_is_not_repeated_in_the_error() -> None:
    with pytest.raises(TrustError) as caught:
        parse_jwk({**jwk(1), "d": "c2VjcmV0"}, "key")

    assert "c2VjcmV0" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PLACES: list[tuple[str | int, ...]] = [
    *[(claim,) for claim in claims() if claim != "aud"],
    ("groups", "hall"),
    ("people", 0),
    *[("people", 0, field) for field in claims()["people"][0]],
    ("robots", 0),
    *[("robots", 0, field) for field in claims()["robots"][0]],
]


@given(place=st.sampled_from(PLACES), value=JSON)
def test_whatever_stands_in_a_place_it_is_read_or_refused(
    place: tuple[str | int, ...], value: object
) -> None:
    changed = claims()
    set_at(*place, to=value)(changed)

    with suppress(TrustError):
        trust = parse_trust(changed)
        assert all(is_name(name) for name in (*trust.people, *trust.robots, *trust.groups))


@given(st.binary(max_size=80))
def test_base64url_goes_there_and_back(data: bytes) -> None:
    text = encode_base64url(data)

    assert decode_base64url(text) == data
    assert decode_base64url(text + "=" * (-len(text) % 4)) == data


@pytest.mark.parametrize(
    "text", ["A", "AB", "AA=", "AAA==", "AA+A", "A A A", "AAAA\n", "AA===", "====", "é", 5, None, b"AA"]
)
def test_what_is_not_base64url_is_none(text: object) -> None:
    assert decode_base64url(text) is None
