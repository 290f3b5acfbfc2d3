"""What a command's args may be, and that a stop is never refused for them (PROTOCOL 3)."""

import pytest

from agent.core.commands import (
    ARGS_UNREAD,
    Code,
)
from agent.core.responses import Response
from agent.core.trust import encode_base64url
from tests.core.orders import ARGS, CHALLENGE, claims, read, refused


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
