"""A robot with nothing attached and a broker that nobody runs: what a plan needs for the program to start."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self

from agent.permit import Permit, PermitReader
from hil.child import Child
from hil.pki import Pki
from hil.site import MODULES, SiteError
from tests.waiting import block_until

ROBOT = "R-1"
ROOT = Path(__file__).parents[1]
PLAN = """\
schema = 1

[robot]
id = "R-1"
name = "福小安"
run_dir = "run"
state_dir = "state"
link_uids = [{uid}]

[remote]
broker = "mqtts://127.0.0.1:1"
ca = "pki/ca.crt"
cert = "pki/robot.crt"
key = "pki/robot.key"
signing_key = "pki/robot.ed25519.pem"
root_keys = ["pki/department-root.jwk"]
trust = "pki/trust.jwt"

[recorder]
dir = "log"
recipients = ["pki/department.x25519.jwk", "pki/authority.x25519.jwk"]
witnesses = ["pki/witness.ed25519.jwk"]

[monitor]
listen = "127.0.0.1:0"
"""


class Bare:
    """Its folder: keys, plan, and what the agent makes there."""

    def __init__(self, folder: Path, edit: Callable[[str], str] = str) -> None:
        """`folder`: short, since sockets live in it."""
        self.folder = folder
        self.plan = folder / "plan.toml"
        self.pki = Pki.create(folder / "pki", robot_id=ROBOT)
        self._started: list[Child] = []
        self.write(edit)

    def write(self, edit: Callable[[str], str]) -> None:
        self.plan.write_text(edit(PLAN.format(uid=os.getuid())), encoding="utf-8")

    @property
    def run_folder(self) -> Path:
        return self.folder / "run" / ROBOT

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Whatever a test that failed left running."""
        for child in self._started:
            if child.ended is None:
                child.stop()

    def begin(self, *modules: str) -> Child:
        """`warden run`, or one module of it; waits for nothing."""
        words: tuple[str | Path, ...] = ("run", *modules, "--config", self.plan)
        child = Child.module("agent", words, self.folder / "agent.out")
        self._started.append(child)
        return child

    def start(self, *modules: str) -> Child:
        """The same, until all of them answer."""
        child = self.begin(*modules)
        for name in modules or MODULES:
            block_until(lambda: child.ended is not None or pid_of(self.run_folder, name))  # noqa: B023
            if child.ended is not None:
                raise SiteError(name, child.last_words())
        return child

    def permit(self, channel: str) -> Permit:
        reader = PermitReader(self.run_folder / f"{channel}.permit")
        permit = reader.read()
        reader.close()
        return permit


def pid_of(run_folder: Path, module: str) -> int:
    """As the module says itself; 0 while it does not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(1)
        try:
            sock.connect(str(run_folder / f"{module}.sock"))
            sock.send(b'{"type":"hello","role":"status","boot":"' + b"0" * 32 + b'","pid":0}')
            sock.send(b'{"type":"status"}')
            return int(json.loads(sock.recv(1 << 17))["module"]["pid"])
        except OSError:
            return 0


def warden(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`python -m agent`, to its end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "TERM": "dumb"}
    command = [sys.executable, "-m", "agent", *map(str, words)]
    return subprocess.run(
        command,
        cwd=cwd or ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
