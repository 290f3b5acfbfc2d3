"""`warden log` and `guardian order` beside a recorder that runs: the way of a hold, an order, a verdict."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.child import Child
from hil.pki import ROOT_KID
from tests.bare import ROBOT, Bare
from tests.console.running import Ran, run
from tests.test_cli import REFUSED, call, error, told

DONE, CLEAN, EXPLAINED = 0, 0, 1


@pytest.fixture
def bare(run_dir: Path) -> Iterator[Bare]:
    with Bare(run_dir) as one:
        yield one


@pytest.fixture
def recorder(bare: Bare) -> Child:
    return bare.start("recorder")


def log(bare: Bare, *words: str | Path) -> tuple[str | Path, ...]:
    return ("log", *words, "--config", bare.plan)


def signed(bare: Bare, *words: str | Path) -> tuple[Ran, Path]:
    """`guardian order`, and the file it wrote; signed by the root key, whose holder needs no trust entry."""
    out = bare.folder / "order.jwt"
    person = bare.pki.person("department-chen")
    profile = {
        "kid": ROOT_KID,
        "signing-key": bare.pki.root_key,
        "broker": "mqtts://127.0.0.1:1",
        "ca": bare.pki.ca,
        "cert": person.cert,
        "key": person.key,
        "trust": bare.pki.trust,
        "root-key": bare.pki.root_jwk,
    }
    options = [f"--{name}={value}" for name, value in profile.items()]
    return run("order", *map(str, words), "--out", str(out), "--yes", *options), out


def test_a_live_log_is_registered_verified_and_exported(bare: Bare, recorder: Child) -> None:
    genesis = bare.folder / "genesis.json"
    genesis.write_text(call(*log(bare, "genesis")).stdout, "utf-8")
    live = call(*log(bare, "verify"), "--genesis", genesis, "--json")
    assert (live.exit_code, told(live)["live"]) == (EXPLAINED, True)
    bundle = bare.folder / "bundle"
    assert call(*log(bare, "export", bundle)).exit_code == DONE
    assert call("log", "verify", bundle, "--genesis", genesis).exit_code == EXPLAINED
    assert recorder.stop() == 0
    assert call(*log(bare, "verify"), "--genesis", genesis).exit_code == CLEAN
    key = bare.folder / "pki" / "department.x25519.pem"
    kinds = [
        json.loads(line)["kind"] for line in call(*log(bare, "decrypt"), "--key", key).stdout.splitlines()
    ]
    assert "recorder_started" in kinds


def test_a_hold_stands_until_an_order_releases_it(bare: Bare, recorder: Child) -> None:
    span = ("--from", "2026-01-01", "--to", "2026-12-31", "--reason", "法院 court order")
    hold = told(call(*log(bare, "hold"), *span, "--json"))
    ran, order = signed(bare, "--release", hold["id"], "--robot", ROBOT, "--reason", "closed")
    assert ran.exit_code == DONE, ran.err
    assert call(*log(bare, "hold"), "--release", order).exit_code == DONE
    assert "was released before" in error(call(*log(bare, "hold"), "--release", order), REFUSED)
    events = told(call(*log(bare, "verify"), "--json"))["events"]["hold"]
    assert [event["id"] for event in events] == [hold["id"]] * 2


def test_nothing_is_due_on_the_first_day_and_an_order_for_it_is_refused(bare: Bare, recorder: Child) -> None:
    due = told(call(*log(bare, "due"), "--json"))
    assert (due["segments"], due["draft"], due["witness_time_ns"]) == ([], None, None)
    draft = bare.folder / "draft.json"
    row = {"stream": "tele", "segno": 1, "seal": "0" * 64}
    draft.write_text(json.dumps({"robot": ROBOT, "order": "delete", "segments": [row], "reason": "early"}))
    ran, order = signed(bare, draft)
    assert ran.exit_code == DONE, ran.err
    result = call(*log(bare, "delete"), "--order", order)
    assert (result.exit_code, result.stdout) == (REFUSED, "")
    assert "tele 1: not deleted / 未删除" in result.stderr
    assert "delete" not in told(call(*log(bare, "verify"), "--json"))["event_counts"]
