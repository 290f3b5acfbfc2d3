"""The whole way of the ledger: recorder, remote, broker, `guardian witness`, and its receipts back."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.tokens import load_public_jwk, verify
from hil.child import Child
from hil.person import write_profile
from hil.pki import WITNESS_KID
from hil.site import Site
from tests.hil.parties import Parties, next_message
from tests.site.conftest import Scene
from tests.waiting import DEADLINE_S, block_until

ROOT = Path(__file__).parents[2]
TOLD = "witness.jsonl"


@pytest.fixture(scope="module")
def scene(site_folder: Path) -> Iterator[Scene]:
    """Each module on its own, so that the recorder can be put aside for a while."""
    with Site(site_folder, broker="mosquitto", modules=("reflex", "remote", "recorder", "monitor")) as site:
        yield Scene(site)


class Witness:
    """`guardian witness --json` at the site."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.state = site.folder / "witnessed"
        self.out = site.folder / TOLD
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *args: str) -> None:
        profile = write_profile(self.site.folder, WITNESS_KID, self.site.broker)
        words = ("witness", "--json", "--profile", str(profile), "--state", str(self.state), *args)
        with self.out.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "console", *words], cwd=ROOT, stdout=out, stderr=out
            )

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(20)
        self.process = None
        return code

    def told(self, notice: str) -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in self.out.read_bytes().splitlines() if line.endswith(b"}")]
        return [row for row in rows if row.get("notice") == notice]

    @property
    def lines(self) -> list[bytes]:
        path = self.state / f"{self.site.robot_id}.jsonl"
        return whole_lines(path) if path.exists() else []


@pytest.fixture
def witness(scene: Scene) -> Iterator[Witness]:
    one = Witness(scene.site)
    yield one
    if one.process is not None:
        one.end(signal.SIGKILL)


def whole_lines(path: Path) -> list[bytes]:
    return path.read_bytes().rpartition(b"\n")[0].splitlines()


def ledger(scene: Scene) -> list[bytes]:
    return whole_lines(scene.site.folder / "log" / "ledger.jsonl")


def kinds(scene: Scene) -> list[str]:
    return [json.loads(line)["kind"] for line in ledger(scene)]


def all_witnessed(scene: Scene, witness: Witness) -> bool:
    """The witness has the whole ledger, and the recorder knows."""
    lines = ledger(scene)
    told = scene.site.ask("recorder").get("witnessed")
    return witness.lines == lines and told == len(lines) - 1


def until_witnessed(scene: Scene, witness: Witness, more_than: int = 0) -> None:
    """Longer than the 30 s after which what was lost is said again."""
    block_until(lambda: len(witness.lines) > more_than and all_witnessed(scene, witness), 45)


def recorder(scene: Scene) -> Child:
    """The recorder's own process among the site's."""
    pid = scene.site.pid("recorder")
    return next(child for child in scene.site.agent if child.pid == pid)


def put_aside(scene: Scene) -> None:
    child = recorder(scene)
    child.kill()
    scene.site.agent.remove(child)


def bring_back(scene: Scene) -> None:
    site = scene.site
    child = Child.module("agent", ("run", "recorder", "--config", site.plan), site.folder / "agent.out")
    site.agent.append(child)
    site.until(lambda: bool(site.ask("recorder")), "recorder", child)


def test_a_witness_that_comes_gets_the_whole_ledger_and_its_receipt_goes_into_it(
    scene: Scene, witness: Witness
) -> None:
    scene.run()
    genesis = scene.site.folder / "genesis"
    genesis.write_bytes(ledger(scene)[0] + b"\n")
    witness.start("--genesis", str(genesis))
    until_witnessed(scene, witness)
    block_until(lambda: "witness.ack" in kinds(scene))
    entry = next(json.loads(line) for line in ledger(scene) if b'"witness.ack"' in line)
    kid, key = load_public_jwk(scene.site.pki.witness_jwk)
    token = entry["body"]["token"].encode()
    claims = verify(token, typ="warden-witness+jwt", key_of={kid: key}.get).claims
    assert (claims["aud"], claims["n"]) == (scene.site.robot_id, entry["body"]["n"])
    assert witness.told("first_use") == []


def test_a_stop_is_witnessed(scene: Scene, witness: Witness) -> None:
    scene.run()
    witness.start()
    until_witnessed(scene, witness)
    before = len(witness.lines)
    scene.guardian.stop(reason="witnessed")
    until_witnessed(scene, witness, before)
    assert "checkpoint" in [json.loads(line)["kind"] for line in witness.lines[before:]]


def test_the_state_says_how_far_the_ledger_goes(scene: Scene, witness: Witness) -> None:
    witness.start()
    until_witnessed(scene, witness)
    head = block_until(lambda: log_head(scene))
    lines = ledger(scene)
    assert 0 <= head["n"] < len(lines)


def log_head(scene: Scene) -> dict[str, Any]:
    return dict(scene.guardian.state().claims["log"]["head"] or {})


def test_a_witness_that_was_killed_goes_on_and_misses_nothing(scene: Scene, witness: Witness) -> None:
    witness.start()
    until_witnessed(scene, witness)
    witness.end(signal.SIGKILL)
    scene.run()
    scene.guardian.stop(reason="nobody saw it")
    before = len(witness.lines)
    block_until(lambda: len(ledger(scene)) > before)
    witness.start()
    until_witnessed(scene, witness, before)
    assert witness.told("fork") == []


def test_a_recorder_that_was_killed_goes_on_in_the_same_ledger(scene: Scene, witness: Witness) -> None:
    witness.start()
    until_witnessed(scene, witness)
    for _ in range(3):
        put_aside(scene)
        bring_back(scene)
    until_witnessed(scene, witness)
    assert kinds(scene).count("boot") >= 4
    assert [witness.told(notice) for notice in ("fork", "foreign", "malformed")] == [[], [], []]


def test_a_log_that_was_set_back_is_found_out_by_both_sides(scene: Scene, witness: Witness) -> None:
    """Somebody with root puts an old copy of the whole folder in the log's place; it stands by itself."""
    site = scene.site
    witness.start()
    until_witnessed(scene, witness)
    put_aside(scene)
    shutil.copytree(site.folder / "log", site.folder / "old")
    bring_back(scene)
    scene.run()
    scene.guardian.stop(reason="to be forgotten")
    known = len(ledger(scene))
    block_until(lambda: len(witness.lines) >= known)
    put_aside(scene)
    shutil.rmtree(site.folder / "log")
    shutil.copytree(site.folder / "old", site.folder / "log")
    kept = witness.lines
    bring_back(scene)
    fork = block_until(lambda: witness.told("fork"))[0]
    assert (fork["robot_id"], fork["reason"], fork["kept"]) == (site.robot_id, "other_entry", True)
    assert witness.lines[: len(kept)] == kept, "what was witnessed stays"
    alarms = whole_lines(witness.state / f"{site.robot_id}.alarms.jsonl")
    ours, theirs = (json.loads(json.loads(alarms[0])[name]) for name in ("ours", "theirs"))
    assert (ours["robot"], ours["n"]) == (theirs["robot"], theirs["n"])
    block_until(lambda: [r for r in site.records() if r["kind"] == "witness_disagrees"])


def test_the_witness_sees_ledgers_and_nothing_else(scene: Scene) -> None:
    """The broker holds it to that: what a stop says to all comes before its entry in the ledger."""
    scene.run()
    ledger_topic = f"warden/v1/{scene.site.robot_id}/ledger"
    assert asyncio.run(seen_until(scene, ledger_topic)) == {ledger_topic}


async def seen_until(scene: Scene, topic: str) -> set[str]:
    """The topics that a witness who asks for everything gets to see, up to the first of this one."""
    seen: set[str] = set()
    async with Parties(scene.site.broker, scene.site.pki) as parties:
        client = await parties.enter(WITNESS_KID)
        await client.subscribe([("warden/v1/#", 1), ("warden/v1/+/ledger", 1)])
        await asyncio.to_thread(scene.guardian.stop, reason="seen by guardians")
        async with asyncio.timeout(DEADLINE_S):
            while topic not in seen:
                seen.add((await next_message(client)).topic.value)
    return seen
