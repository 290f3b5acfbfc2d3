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
    Command,
    Refusal,
    Seen,
    jti_of,
    read_command,
)
from agent.core.responses import Response
from agent.core.trust import ALL, Person, Role, encode_base64url

NOW_S = 1_782_792_000.0
"""2026-06-30, noon in Shenzhen."""
CHALLENGE = bytes(range(16))

ARGS: dict[str, dict[str, Any]] = {
    "stop": {"response": "safe_mode", "reason": "有人靠近"},
    "resume": {"epoch": 7, "challenge": encode_base64url(CHALLENGE), "reason": "checked"},
    "power_off": {"reason": "smoke"},
    "request_maintenance": {"reason": "noise"},
    "maintenance": {"begin": True, "note": "brakes"},
    "suspend": {"reason": "incident"},
    "reinstate": {"epoch": 7, "challenge": encode_base64url(CHALLENGE), "evaluation": "passed"},
    "retire": {"challenge": encode_base64url(CHALLENGE), "reason": "end of life"},
    "ping": {},
}
WHO: dict[str, frozenset[Role]] = {
    "stop": frozenset(Role),
    "ping": frozenset(Role),
    "resume": frozenset({Role.GUARDIAN}),
    "power_off": frozenset({Role.GUARDIAN}),
    "request_maintenance": frozenset({Role.GUARDIAN}),
    "maintenance": frozenset({Role.MAINTAINER}),
    "suspend": frozenset({Role.DEPARTMENT}),
    "reinstate": frozenset({Role.DEPARTMENT}),
    "retire": frozenset({Role.DEPARTMENT}),
}


def role_for(cmd: str) -> Role:
    return Role.GUARDIAN if Role.GUARDIAN in WHO[cmd] else next(iter(WHO[cmd]))


def person(role: Role = Role.GUARDIAN, **changes: object) -> Person:
    fields: dict[str, Any] = {
        "kid": "g.li",
        "name": "李明",
        "role": role,
        "key": b"\x01" * 32,
        "robots": frozenset({"R1"}),
        "trained_until": date(2026, 12, 31),
        "revoked": False,
    }
    return Person(**{**fields, **changes})


def claims(cmd: str, **changes: object) -> dict[str, Any]:
    return {
        "iss": "g.li",
        "aud": "R1",
        "iat": NOW_S - 1,
        "exp": NOW_S + 60,
        "jti": "j-1",
        "cmd": cmd,
        "args": ARGS.get(cmd, {}),
        **changes,
    }


def read(given_claims: dict[str, Any], who: Person | None = None, *, clock_sure: bool = True) -> Command:
    who = who or person(role_for(str(given_claims.get("cmd", "stop"))))
    return read_command(
        given_claims,
        person=who,
        kid=who.kid,
        robot_id="R1",
        groups=frozenset({"hall"}),
        now_s=NOW_S,
        clock_sure=clock_sure,
    )


def refused(given_claims: dict[str, Any], who: Person | None = None, *, clock_sure: bool = True) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read(given_claims, who, clock_sure=clock_sure)
    assert str(caught.value) == f"{caught.value.code.value}: {caught.value.detail}"
    return caught.value


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


def test_args_are_typed() -> None:
    stop, resume, reinstate = (read(claims(cmd)).args for cmd in ("stop", "resume", "reinstate"))

    assert (stop.response, stop.reason) == (Response.SAFE_MODE, "有人靠近")
    assert (resume.epoch, resume.challenge, resume.reason) == (7, CHALLENGE, "checked")
    assert (reinstate.epoch, reinstate.challenge, reinstate.evaluation) == (7, CHALLENGE, "passed")
    maintenance = read(claims("maintenance")).args
    assert (maintenance.begin, maintenance.note) == (True, "brakes")
    assert read(claims("retire")).args.reason == "end of life"


def test_what_may_be_left_out_has_its_default() -> None:
    assert read(claims("stop", args={})).args.response is Response.EMERGENCY_STOP
    assert read(claims("stop", args={})).args.reason == ""
    assert read(claims("maintenance", args={"begin": False})).args.note == ""
    bare = {name: value for name, value in ARGS["resume"].items() if name != "reason"}
    assert read(claims("resume", args=bare)).args.reason == ""


@pytest.mark.parametrize("response", [Response.HOLD, Response.SAFE_MODE, Response.EMERGENCY_STOP])
def test_a_stop_has_three_strengths(response: Response) -> None:
    assert read(claims("stop", args={"response": response.label})).args.response is response


def test_a_challenge_may_be_padded() -> None:
    padded = encode_base64url(CHALLENGE) + "=="

    assert read(claims("resume", args={**ARGS["resume"], "challenge": padded})).args.challenge == CHALLENGE


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


BAD_ARGS: dict[str, dict[str, list[object]]] = {
    "resume": {
        "epoch": [-1, 2**33 + 1, True, 1.0, "7", None],
        "challenge": [encode_base64url(bytes(15)), encode_base64url(bytes(17)), "", "====", "é", 5, None],
        "reason": ["x" * 501, 5, None],
        "force": [True],
    },
    "reinstate": {"evaluation": ["", " \t", "x" * 501, None], "epoch": [-1], "challenge": [""]},
    "retire": {"challenge": [None], "reason": ["", None]},
    "suspend": {"reason": ["", "  ", 5]},
    "maintenance": {"begin": [0, 1, "true", None], "note": ["x" * 501]},
    "request_maintenance": {"reason": [5]},
    "ping": {"reason": [""]},
}


@pytest.mark.parametrize(
    ("cmd", "name", "value"),
    [(cmd, name, value) for cmd, bad in BAD_ARGS.items() for name, values in bad.items() for value in values],
)
def test_args_are_checked(cmd: str, name: str, value: object) -> None:
    refusal = refused(claims(cmd, args={**ARGS[cmd], name: value}))

    assert refusal.code is Code.MALFORMED
    assert name in refusal.detail


@pytest.mark.parametrize(
    ("cmd", "name"),
    [
        ("resume", "epoch"),
        ("resume", "challenge"),
        ("reinstate", "epoch"),
        ("reinstate", "challenge"),
        ("reinstate", "evaluation"),
        ("retire", "challenge"),
        ("retire", "reason"),
        ("suspend", "reason"),
        ("maintenance", "begin"),
    ],
)
def test_args_are_required(cmd: str, name: str) -> None:
    refusal = refused(claims(cmd, args={key: value for key, value in ARGS[cmd].items() if key != name}))

    assert refusal.code is Code.MALFORMED
    assert name in refusal.detail


def test_the_ends_of_the_ranges_are_inside() -> None:
    for epoch in (0, 2**33):
        assert read(claims("resume", args={**ARGS["resume"], "epoch": epoch})).args.epoch == epoch
    assert len(read(claims("suspend", args={"reason": "x" * 500})).args.reason) == 500
    assert read(claims("ping", jti="x" * 64)).jti == "x" * 64


@pytest.mark.parametrize("args", [None, [], "stop", 5])
def test_args_are_an_object(args: object) -> None:
    assert refused(claims("ping", args=args)).code is Code.MALFORMED
    missing = claims("ping")
    del missing["args"]
    assert refused(missing).code is Code.MALFORMED


UNREADABLE: list[object] = [
    None,
    [],
    {"response": "none"},
    {"response": "suspend"},
    {"response": 5},
    {"response": ["hold"]},
    {"response": "hold ", "reason": "r"},
    {"speed": 0},
]


@pytest.mark.parametrize("args", UNREADABLE)
def test_a_trusted_persons_stop_is_never_refused_for_its_args(args: object) -> None:
    command = read(claims("stop", args=args))

    assert command.args.response is Response.EMERGENCY_STOP
    assert command.notes == (ARGS_UNREAD,)


def test_what_can_be_read_of_a_stop_is_kept() -> None:
    held = read(claims("stop", args={"response": "hold", "reason": "x" * 501}))
    missing = claims("stop")
    del missing["args"]

    assert (held.args.response, held.args.reason, held.notes) == (Response.HOLD, "", (ARGS_UNREAD,))
    assert read(missing).notes == (ARGS_UNREAD,)
    assert read(claims("power_off", args={"reason": 5})).notes == (ARGS_UNREAD,)


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


# ---------------------------------------------------------------------------------------------- repeated jtis


def test_a_repeated_jti_gets_the_first_answer() -> None:
    seen: Seen[str] = Seen()

    assert seen.first_answer("g.li", "j", NOW_S) is None
    assert seen.remember("g.li", "j", exp=NOW_S + 60, answer="first", now_s=NOW_S) == "first"
    assert seen.remember("g.li", "j", exp=NOW_S + 60, answer="second", now_s=NOW_S + 1) == "first"
    assert seen.first_answer("g.li", "j", NOW_S + 2) == "first"
    assert seen.first_answer("g.wang", "j", NOW_S) is None, "a jti is its giver's own"
    assert len(seen) == 1


def test_an_answer_is_kept_until_the_command_could_not_be_taken_any_more() -> None:
    seen: Seen[str] = Seen()
    seen.remember("g.li", "ahead", exp=NOW_S + 124, answer="a", now_s=NOW_S)
    seen.remember("g.li", "past", exp=NOW_S - 9999, answer="b", now_s=NOW_S)

    assert seen.first_answer("g.li", "ahead", NOW_S + 129) == "a"
    assert seen.first_answer("g.li", "ahead", NOW_S + 129.1) is None
    assert seen.first_answer("g.li", "past", NOW_S + 125) == "b", "taken under an unsure clock"
    assert seen.first_answer("g.li", "past", NOW_S + 125.1) is None
    assert seen.remember("g.li", "past", exp=NOW_S, answer="new", now_s=NOW_S + 200) == "new"


def test_nobody_pushes_out_anothers_answers() -> None:
    seen: Seen[int] = Seen(per_kid=4)
    seen.remember("g.li", "mine", exp=NOW_S, answer=1, now_s=NOW_S)
    for number in range(100):
        seen.remember("g.wang", f"flood-{number}", exp=NOW_S, answer=-number, now_s=NOW_S + number / 1000)

    assert seen.first_answer("g.li", "mine", NOW_S + 1) == 1
    assert [seen.first_answer("g.wang", f"flood-{number}", NOW_S + 1) for number in range(95, 100)] == [
        None,
        -96,
        -97,
        -98,
        -99,
    ]
    assert len(seen) == 5


def test_a_kid_has_room_for_more_than_a_person_gives_in_two_minutes() -> None:
    seen: Seen[int] = Seen()
    for number in range(200):
        seen.remember("g.li", str(number), exp=NOW_S, answer=number, now_s=NOW_S)

    assert len(seen) == 128


def test_what_is_over_goes_before_what_is_not() -> None:
    seen: Seen[str] = Seen(per_kid=2)
    seen.remember("g.li", "old", exp=NOW_S, answer="old", now_s=NOW_S)
    seen.remember("g.li", "new", exp=NOW_S, answer="new", now_s=NOW_S + 200)
    seen.remember("g.li", "newest", exp=NOW_S, answer="newest", now_s=NOW_S + 201)

    assert seen.first_answer("g.li", "new", NOW_S + 202) == "new"
    assert seen.first_answer("g.li", "newest", NOW_S + 202) == "newest"
    assert len(seen) == 2
