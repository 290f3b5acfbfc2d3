"""`warden drop`: what systemd runs after a module has ended."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.person import Person
from hil.site import Site
from tests.waiting import block_until

ROOT = Path(__file__).parents[1]


@pytest.fixture
def site() -> Iterator[Site]:
    """Two nodes and a plan; no agent."""
    folder = Path(tempfile.mkdtemp(prefix="w"))
    made = Site(folder, broker="mosquitto")
    made.broker.start()
    made.node_a.start()
    made.node_b.start()
    made.write_plan()
    yield made
    made.stop()
    shutil.rmtree(folder, ignore_errors=True)


def drop(site: Site, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "agent", "drop", *words, "--config", str(site.plan)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_every_output_is_seen_de_energised(site: Site) -> None:
    done = drop(site, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"outputs": {"relay_a": "seen", "relay_b": "seen"}}


def test_one_channel_s_only(site: Site) -> None:
    done = drop(site, "remote", "--json")
    assert json.loads(done.stdout) == {"outputs": {"relay_b": "seen"}}
    assert drop(site, "recorder").returncode == 2


def test_a_relay_that_does_not_open_is_said_and_fails(site: Site) -> None:
    site.start_agent()
    site.start_robot()
    guardian = Person(site.folder, "guardian-li", site.pki, site.broker)
    block_until(lambda: not any(site.ask(m)["channel"]["blockers"] for m in ("reflex", "remote")))
    assert guardian.resume(retries=5)[-1].stage == "actuated"
    block_until(lambda: site.node_b.control.state().relay)
    site.node_b.control.jam()
    site.agent[0].stop()
    done = drop(site)
    assert done.returncode == 1
    assert "relay_a: read back de-energised" in done.stdout
    assert "relay_b: still reads energised" in done.stdout


def test_a_port_that_is_away_is_said_and_fails(site: Site) -> None:
    site.node_b.control.unplug()
    done = drop(site, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["outputs"] == {"relay_a": "seen", "relay_b": "away"}
