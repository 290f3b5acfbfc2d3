"""`guardian` without a broker: usage, help, profiles that are not there, keys."""

import json
from pathlib import Path

import pytest

from agent.recipients import load_recipient, load_recipient_key
from agent.tokens import load_private_key, load_public_jwk, raw_public_key
from console.errors import DONE, FAILED, WRONG_USAGE
from tests.console.robots import GUARDIAN
from tests.console.running import run


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["dance", "R1"],
        ["stop"],
        ["stop", "R1", "--all"],
        ["stop", "--all", "--group", "hall"],
        ["stop", "R 1"],
        ["stop", "--group", "ha/ll"],
        ["stop", "R1", "--response", "none"],
        ["stop", "R1", "--timeout", "0"],
        ["stop", "R1", "--timeout", "soon"],
        ["stop", "R1", "--reason", "x" * 501],
        ["stop", "R1", "--protocol", "4"],
        ["hold"],
        ["resume"],
        ["resume", "R1", "R2"],
        ["ping", "+"],
        ["watch", "#"],
        ["watch", "--once"],
        ["keygen"],
        ["keygen", "../evil"],
        ["keygen", "g.li", "--suite", "1"],
        ["keygen", "g.li", "--recipient", "--suite", "3"],
    ],
)
def test_wrong_usage_is_said_before_anything_is_read(args: list[str]) -> None:
    assert run(*args).exit_code == WRONG_USAGE


@pytest.mark.parametrize("command", ["keygen", "stop", "hold", "resume", "ping", "watch"])
def test_every_command_has_help(command: str) -> None:
    ran = run(command, "--help")

    assert ran.exit_code == DONE
    assert "--json" in ran.out


def test_a_profile_that_is_not_there_is_named(tmp_path: Path) -> None:
    ran = run("stop", "R1", "--profile", str(tmp_path / "guardian.toml"))

    assert ran.exit_code == FAILED
    assert ran.err.splitlines()[1:] == [
        f"guardian: {tmp_path}/guardian.toml: is not there: make it, or give --profile or GUARDIAN_PROFILE"
    ]


def test_keygen_makes_a_pair_and_prints_the_public_half(tmp_path: Path) -> None:
    ran = run("keygen", GUARDIAN, "--dir", str(tmp_path))

    private, public = tmp_path / f"{GUARDIAN}.ed25519.pem", tmp_path / f"{GUARDIAN}.ed25519.jwk"
    assert ran.exit_code == DONE
    assert json.loads(ran.out) == json.loads(public.read_text("utf-8"))
    assert load_public_jwk(public) == (GUARDIAN, raw_public_key(load_private_key(private)))
    assert private.stat().st_mode & 0o777 == 0o600
    assert str(private) in ran.err


def test_keygen_never_overwrites_unless_forced(tmp_path: Path) -> None:
    first = json.loads(run("keygen", "g.li", "--json", "--dir", str(tmp_path)).out)
    again = run("keygen", "g.li", "--json", "--dir", str(tmp_path))
    forced = json.loads(run("keygen", "g.li", "--json", "--force", "--dir", str(tmp_path)).out)

    assert (again.exit_code, json.loads(again.out)["type"]) == (FAILED, "error")
    assert "g.li.ed25519.pem" in json.loads(again.out)["error"]
    assert forced["jwk"]["x"] != first["jwk"]["x"]
    assert forced["private"] == first["private"]


@pytest.mark.parametrize(
    ("options", "kind"), [((), "x25519"), (("--suite", "1"), "x25519"), (("--suite", "2"), "sm2")]
)
def test_keygen_makes_a_recipient(tmp_path: Path, options: tuple[str, ...], kind: str) -> None:
    command = ("keygen", "department", "--recipient", *options, "--dir", str(tmp_path))
    made = run(*command, "--json")

    private, public = tmp_path / f"department.{kind}.pem", tmp_path / f"department.{kind}.jwk"
    assert made.exit_code == DONE
    jwk = json.loads(public.read_text("utf-8"))
    assert made.lines == [{"kid": "department", "private": str(private), "public": str(public), "jwk": jwk}]
    assert load_recipient(public).suite == load_recipient_key(private).suite
    again = run(*command)
    assert again.exit_code == FAILED
    assert f"{private}: is there already" in again.err
    forced = run(*command, "--force")
    assert json.loads(forced.out) == json.loads(public.read_text("utf-8")) != jwk
    assert str(private) in forced.err
    assert "recorder.recipients" in forced.err
