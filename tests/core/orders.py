"""Commands in order, for tests to break one thing at a time; who may give each, by PROTOCOL 3."""

from datetime import date
from typing import Any

import pytest

from agent.core.commands import (
    Command,
    Refusal,
    read_command,
)
from agent.core.trust import Person, Role, encode_base64url

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
