"""What each command takes and who may give it (PROTOCOL 3, "Commands")."""

from contextlib import suppress
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.commands import (
    ARGS_UNREAD,
    CLOCK_UNSURE,
    COMMANDS,
    TRAINING_EXPIRED,
    Code,
    Refusal,
    jti_of,
)
from agent.core.responses import Response
from agent.core.trust import ALL, Role
from tests.core.orders import ARGS, NOW_S, WHO, claims, person, read, refused, role_for


def test_the_tables_here_and_there_name_the_same_commands() -> None:
    assert set(COMMANDS) == set(ARGS) == set(WHO)


def test_only_what_starts_or_ends_for_good_needs_a_challenge() -> None:
    assert {cmd for cmd, rule in COMMANDS.items() if rule.needs_challenge} == {
        "resume",
        "reinstate",
        "retire",
    }
    assert {cmd for cmd, rule in COMMANDS.items() if rule.stops} == {"stop", "power_off"}


@pytest.mark.parametrize("cmd", COMMANDS)
def test_a_command_in_order_is_read(cmd: str) -> None:
    command = read(claims(cmd))

    assert (command.cmd, command.kid, command.role) == (cmd, "g.li", role_for(cmd))
    assert (command.jti, command.iat, command.exp) == ("j-1", NOW_S - 1, NOW_S + 60)
    assert command.notes == ()


@pytest.mark.parametrize("cmd", COMMANDS)
@pytest.mark.parametrize("role", Role)
def test_each_role_may_give_what_the_protocol_says(cmd: str, role: Role) -> None:
    if role in WHO[cmd]:
        assert read(claims(cmd), person(role)).role is role
    else:
        assert refused(claims(cmd), person(role)).code is Code.NOT_ENTITLED


@pytest.mark.parametrize("cmd", COMMANDS)
def test_a_person_who_does_not_serve_the_robot_may_only_stop_and_ping_it(cmd: str) -> None:
    stranger = person(role_for(cmd), robots=frozenset({"R2"}))

    if cmd in {"stop", "ping"}:
        assert read(claims(cmd), stranger).cmd == cmd
    else:
        assert refused(claims(cmd), stranger).code is Code.NOT_ENTITLED
    assert read(claims(cmd), person(role_for(cmd), robots=ALL)).cmd == cmd


@pytest.mark.parametrize("cmd", COMMANDS)
def test_a_revoked_key_is_good_for_nothing(cmd: str) -> None:
    assert refused(claims(cmd), person(role_for(cmd), revoked=True)).code is Code.REVOKED
    assert refused(claims(cmd), person(role_for(cmd), revoked=True), clock_sure=False).code is Code.REVOKED


@pytest.mark.parametrize("cmd", COMMANDS)
def test_when_the_training_is_over_a_guardian_may_still_stop(cmd: str) -> None:
    role = role_for(cmd)
    untrained = person(role, trained_until=date(2026, 6, 29))

    if role is not Role.GUARDIAN:
        assert read(claims(cmd), untrained).notes == ()
    elif COMMANDS[cmd].stops:
        assert read(claims(cmd), untrained).notes == (TRAINING_EXPIRED,)
    else:
        assert refused(claims(cmd), untrained).code is Code.TRAINING_EXPIRED
    assert read(claims(cmd), person(role, trained_until=date(2026, 6, 30))).notes == ()


TIMES = [
    (NOW_S - 66, NOW_S - 5.001, Code.EXPIRED),
    (NOW_S - 66, NOW_S - 5, None),
    (NOW_S + 5, NOW_S + 60, None),
    (NOW_S + 5.001, NOW_S + 60, Code.NOT_YET_VALID),
]


@pytest.mark.parametrize(("iat", "exp", "code"), TIMES)
@pytest.mark.parametrize("cmd", COMMANDS)
def test_a_command_is_taken_in_its_time_or_when_it_stops_and_the_clock_is_unsure(
    cmd: str, iat: float, exp: float, code: Code | None
) -> None:
    timed = claims(cmd, iat=iat, exp=exp)

    if code is None:
        assert read(timed).notes == read(timed, clock_sure=False).notes == ()
        return
    assert refused(timed).code is code
    if COMMANDS[cmd].stops:
        assert read(timed, clock_sure=False).notes == (CLOCK_UNSURE,)
    else:
        assert refused(timed, clock_sure=False).code is code


def test_a_command_lives_at_most_two_minutes() -> None:
    assert read(claims("ping", iat=NOW_S, exp=NOW_S + 120)).exp == NOW_S + 120
    for exp in (NOW_S, NOW_S - 1, NOW_S + 120.001):
        assert refused(claims("stop", iat=NOW_S, exp=exp), clock_sure=False).code is Code.MALFORMED


@pytest.mark.parametrize("aud", ["R1", "group:hall", "group:all"])
def test_the_robot_and_its_groups_are_meant(aud: str) -> None:
    assert read(claims("stop", aud=aud)).cmd == "stop"


@pytest.mark.parametrize("aud", ["R2", "group:roof", "group:R1", "hall", "all", "*", "", "group:"])
def test_whoever_else_is_meant_is_not_this_robot(aud: str) -> None:
    assert refused(claims("stop", aud=aud), clock_sure=False).code is Code.WRONG_AUDIENCE


@pytest.mark.parametrize("cmd", COMMANDS)
@pytest.mark.parametrize("claim", ["iss", "aud", "iat", "exp", "jti", "cmd"])
def test_every_claim_is_required(cmd: str, claim: str) -> None:
    missing = claims(cmd)
    del missing[claim]

    assert refused(missing, person(role_for(cmd))).code is Code.MALFORMED


BAD_CLAIMS: dict[str, list[object]] = {
    "iss": ["g.wang", "", None, ["g.li"]],
    "aud": [["R1"], None, 1, {}],
    "iat": ["1", None, True, -1, float("nan"), float("inf"), 10**400, [NOW_S]],
    "exp": ["1", None, False, -1, float("nan"), float("inf"), 10**400],
    "jti": ["", "x" * 65, "a\x00b", "line\n", 5, None],
    "cmd": ["drill", "STOP", "", None, 5, ["stop"], "stop "],
}


@pytest.mark.parametrize(
    ("claim", "value"), [(claim, value) for claim, values in BAD_CLAIMS.items() for value in values]
)
@pytest.mark.parametrize("clock_sure", [True, False])
def test_every_claim_is_typed_even_of_a_stop(claim: str, value: object, clock_sure: bool) -> None:
    assert refused(claims("stop") | {claim: value}, person(), clock_sure=clock_sure).code is Code.MALFORMED


def test_times_are_numbers_that_every_language_holds_exactly() -> None:
    end = 2.0**53

    assert read(claims("stop", iat=end - 60, exp=end), clock_sure=False).exp == end
    assert refused(claims("stop", iat=end - 60, exp=end + 2), clock_sure=False).code is Code.MALFORMED
    assert read(claims("stop", iat=0, exp=60), clock_sure=False).iat == 0


def test_a_claim_that_is_not_known_is_refused_unless_it_comes_with_a_stop() -> None:
    assert refused(claims("resume", nbf=0)).code is Code.MALFORMED
    assert read(claims("stop", nbf=0)).cmd == "stop"


def test_all_that_was_waived_is_noted() -> None:
    untrained = person(trained_until=date(2020, 1, 1))
    late = claims("stop", iat=NOW_S - 1000, exp=NOW_S - 900, args=None)

    assert read(late, untrained, clock_sure=False).notes == (CLOCK_UNSURE, TRAINING_EXPIRED, ARGS_UNREAD)


def test_the_checks_come_in_the_order_of_the_protocol() -> None:
    """Everything is wrong at first; each step mends what was complained of."""
    wrong: dict[str, Any] = claims("resume", jti="", aud="R9", iat=NOW_S - 100, exp=NOW_S - 50)
    who: dict[str, Any] = {
        "role": Role.AUTHORITY,
        "revoked": True,
        "robots": frozenset({"R2"}),
        "trained_until": date(2020, 1, 1),
    }
    mends: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"jti": "j"}, {}),
        ({}, {"revoked": False}),
        ({"aud": "R1"}, {}),
        ({"exp": NOW_S + 10}, {}),
        ({}, {"role": Role.GUARDIAN}),
        ({}, {"robots": ALL}),
        ({}, {"trained_until": date(2026, 12, 31)}),
    ]
    codes = []
    for claim, field in mends:
        codes.append(refused(wrong, person(**who)).code)
        wrong, who = wrong | claim, who | field

    assert codes == [
        Code.MALFORMED,
        Code.REVOKED,
        Code.WRONG_AUDIENCE,
        Code.EXPIRED,
        Code.NOT_ENTITLED,
        Code.NOT_ENTITLED,
        Code.TRAINING_EXPIRED,
    ]
    assert read(wrong, person(**who)).cmd == "resume"


def test_a_refusal_for_time_says_by_how_much() -> None:
    assert "exp: 40 s ago" in refused(claims("ping", iat=NOW_S - 100, exp=NOW_S - 40)).detail
    assert "iat: 70 s ahead" in refused(claims("ping", iat=NOW_S + 70, exp=NOW_S + 90)).detail


@pytest.mark.parametrize(
    ("value", "jti"), [("j", "j"), ("x" * 64, "x" * 64), ("", None), ("x" * 65, None), (5, None)]
)
def test_a_jti_is_known_before_all_else(value: object, jti: str | None) -> None:
    assert jti_of({"jti": value}) == jti
    assert jti_of({}) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    cmd=st.sampled_from(sorted(COMMANDS)),
    changes=st.dictionaries(
        st.sampled_from(["iss", "aud", "iat", "exp", "jti", "cmd", "args", "more"]), JSON
    ),
    clock_sure=st.booleans(),
)
def test_whatever_is_claimed_it_is_read_or_refused(
    cmd: str, changes: dict[str, Any], clock_sure: bool
) -> None:
    with suppress(Refusal):
        command = read(claims(cmd) | changes, person(role_for(cmd)), clock_sure=clock_sure)
        assert command.cmd in COMMANDS
        assert command.args.response in {None, Response.HOLD, Response.SAFE_MODE, Response.EMERGENCY_STOP}
