"""One whole site on this machine: keys, broker, two safety nodes, the robot, and the agent watching over it.

Everything is a process of its own and real: the broker speaks TLS, the nodes' ports are terminal lines, the
agent is `warden run`. The demo, the tests and the benchmark all stand on it.

    with Site(folder) as site:
        site.node_a.control.press("estop")
"""

import io
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from agent.audit import OrderKeys, Report, decrypt, load_recipient_key, verify
from agent.errors import WardenError
from agent.tokens import load_public_jwk, load_roots, load_trust
from hil.broker import Broker
from hil.child import Child
from hil.node_control import NodeProcess
from hil.pki import Pki

START_S = 30.0
_LOOK_AGAIN_S = 0.01

PLAN = """\
schema = 1

[robot]
id = "{robot_id}"
name = "{robot_name}"
kind = "embodied"
risk = "high"
run_dir = "run"
state_dir = "state"
link_uids = [{uid}]

[times]
ttl_ms = {ttl_ms}
ss1_ms = 800
still_ms = 3000

[inputs.estop]
driver = "serial_node"
port = "a/node.tty"
bit = 0

[inputs.bumper]
driver = "serial_node"
port = "a/node.tty"
bit = 1

[outputs.relay_a]
channel = "reflex"
driver = "serial_node"
port = "a/node.tty"

[outputs.relay_b]
channel = "remote"
driver = "serial_node"
port = "b/node.tty"

[[condition]]
id = "estop_pressed"
input = "estop"
is = "open"
response = "emergency_stop"
clear = "reset_and_resume"
text.zh = "急停按钮被按下"
text.en = "Emergency stop pressed"

[[condition]]
id = "bumper_hit"
input = "bumper"
is = "open"
response = "safe_mode"
clear = "resume"
text.zh = "防撞条被触发"
text.en = "Bumper hit"

[envelope]
area = [[-50.0, -50.0], [50.0, -50.0], [50.0, 50.0], [-50.0, 50.0]]
max_speed_mps = 1.5
tasks = ["guide", "patrol", "charge"]

[remote]
broker = "{broker}"
protocol = "{protocol}"
ca = "pki/ca.crt"
cert = "pki/robot.crt"
key = "pki/robot.key"
signing_key = "pki/robot.ed25519.pem"
root_keys = ["pki/department-root.jwk"]
trust = "pki/trust.jwt"
groups = ["hall"]
link_lost_s = 5

[recorder]
dir = "log"
recipients = ["pki/department.x25519.jwk", "pki/authority.x25519.jwk"]
witnesses = ["pki/witness.ed25519.jwk"]

[monitor]
listen = "127.0.0.1:0"
"""


class SiteError(WardenError):
    """A part of the site did not come up or answer. `part`: which; `reason`: its last words."""

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"{part}: {reason}")
        self.part = part
        self.reason = reason


class Site:
    """As a context manager everything is started when entered and ended, in order, when left."""

    def __init__(
        self,
        folder: Path,
        *,
        broker: Literal["auto", "mosquitto", "embedded"] = "auto",
        edit: Callable[[str], str] = str,
        ttl_ms: int = 100,
        robot_id: str = "FT-2024-0017",
        modules: Sequence[str] = (),
    ) -> None:
        """`folder`: short, since sockets live in it (107 bytes).

        `edit`: changes the plan's text. `modules`: only these, each as `warden run NAME`; none: all, by
        one `warden run`.
        """
        self.folder = folder
        self.robot_id = robot_id
        self._edit = edit
        self._ttl_ms = ttl_ms
        self._modules = tuple(modules)
        for name in ("a", "b", "broker"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.pki = Pki.create(folder / "pki", robot_id=robot_id)
        self.broker = Broker(broker, folder / "broker", self.pki)
        self.node_a = NodeProcess(folder / "a")
        self.node_b = NodeProcess(folder / "b", inputs="spare")
        self.plan = folder / "plan.toml"
        self.agent: list[Child] = []
        self.robot: Child | None = None

    @property
    def run_folder(self) -> Path:
        """Permits and sockets."""
        return self.folder / "run" / self.robot_id

    @property
    def permits(self) -> tuple[Path, Path]:
        """The two run permits."""
        return self.run_folder / "reflex.permit", self.run_folder / "remote.permit"

    def start(self) -> Self:
        """Broker, nodes, agent, robot; returns when the agent answers and the robot is connected."""
        self.broker.start()
        self.node_a.start()
        self.node_b.start()
        self.write_plan()
        self.start_agent()
        self.start_robot()
        return self

    def stop(self) -> None:
        """Ends what runs, the robot first; idempotent."""
        for part in (self.robot, *self.agent):
            if part is not None and part.ended is None:
                part.stop()
        for node in (self.node_a, self.node_b):
            if hasattr(node, "process"):
                node.stop()
        self.broker.stop()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def write_plan(self) -> None:
        """The plan of this site, edited."""
        text = PLAN.format(
            robot_id=self.robot_id,
            robot_name=self.pki.robot_name,
            uid=os.getuid(),
            ttl_ms=self._ttl_ms,
            broker=self.broker.url,
            protocol=self.broker.protocol,
        )
        self.plan.write_text(self._edit(text), encoding="utf-8")

    def start_agent(self) -> None:
        """`warden run`; until every module that was asked for answers."""
        for name in self._modules:
            self._run(name)
        if not self._modules:
            self._run()

    def _run(self, *words: str) -> None:
        child = Child.module("agent", ("run", *words, "--config", self.plan), self.folder / "agent.out")
        self.agent.append(child)
        for name in words or MODULES:
            self.until(partial(self._answers, name), name, child)

    def _answers(self, module: str) -> bool:
        return bool(self.ask(module))

    def start_robot(self) -> None:
        """The simulated robot; until the agent hears it."""
        arguments = ("--link", self.run_folder / "robot.sock", "--name", self.pki.robot_name, "--auto-work")
        files = ("--report", self.folder / "robot.jsonl", "--control", self.folder / "robot.ctl")
        self.robot = Child.module("hil.robot", (*arguments, *files), self.folder / "robot.out")
        self.until(lambda: bool(self.ask("reflex").get("robot", {}).get("connected")), "robot", self.robot)

    # ------------------------------------------------------------------------------------------- asking

    def ask(self, module: str) -> dict[str, Any]:
        """The module's status, empty when it does not answer within half a second."""
        return ask_module(self.run_folder, module)

    def pid(self, module: str) -> int:
        """Of a module's process, as it says itself. Raises SiteError when it does not answer."""
        answer = self.ask(module)
        if not answer:
            raise SiteError(module, "does not answer")
        return int(answer["module"]["pid"])

    def signal(self, module: str, number: signal.Signals) -> int:
        """Sends a signal to a module's process; CLOCK_MONOTONIC nanoseconds right before it."""
        pid = self.pid(module)
        sent_ns = time.monotonic_ns()
        os.kill(pid, number)
        return sent_ns

    def records(self) -> list[dict[str, Any]]:
        """Everything in the log so far, opened with the department's key, also while it is written."""
        out = io.BytesIO()
        key = load_recipient_key(self.pki.recipient_key("department"))
        decrypt(self.folder / "log", [key], out=out, processes=1)
        return [json.loads(line) for line in out.getvalue().splitlines()]

    def verify_log(self) -> Report:
        """What an auditor finds who knows the genesis, the department's root and the witness's key."""
        folder = self.folder / "log"
        roots = load_roots([self.pki.root_jwk])
        return verify(
            folder,
            genesis=(folder / "ledger.jsonl").read_bytes().partition(b"\n")[0],
            order_keys=OrderKeys(roots, load_trust(self.pki.trust, roots)),
            witness_keys=dict([load_public_jwk(self.pki.witness_jwk)]),
            processes=1,
        )

    def account(self) -> dict[str, Any]:
        """The robot's own account of itself now."""
        return self.order("account")

    def order(self, name: str, **arguments: object) -> dict[str, Any]:
        """One order to the simulated robot, and its answer."""
        packet = json.dumps({"order": name, **arguments}).encode()
        return _ask(self.folder / "robot.ctl", (packet,), None)

    def reports(self) -> list[dict[str, Any]]:
        """The robot's account from its start, oldest first."""
        lines = (self.folder / "robot.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def metrics_address(self) -> str:
        """Where monitor listens."""
        return (self.run_folder / "monitor.address").read_text(encoding="ascii").strip()

    def until(
        self, true: Callable[[], bool], part: str, child: Child | None = None, deadline_s: float = START_S
    ) -> None:
        """Looks at a real condition until it holds; SiteError at the deadline or when `child` ends."""
        give_up_s = time.monotonic() + deadline_s
        while not true():
            if child is not None and child.ended is not None:
                raise SiteError(part, f"ended: {child.last_words()}")
            if time.monotonic() > give_up_s:
                raise SiteError(part, f"not in {deadline_s:g} s: {child.last_words() if child else ''}")
            time.sleep(_LOOK_AGAIN_S)


MODULES = ("reflex", "remote", "recorder", "monitor")
_HELLO = b'{"type":"hello","role":"status","boot":"' + b"0" * 32 + b'","pid":0}'
_STATUS = (_HELLO, b'{"type":"status"}')


def _ask(path: Path, packets: tuple[bytes, ...], wanted: str | None) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(0.5)
        try:
            sock.connect(str(path))
            for packet in packets:
                sock.send(packet)
            while data := sock.recv(1 << 18):
                message = json.loads(data)
                if isinstance(message, Mapping) and wanted in (None, message.get("type")):
                    return dict(message)
        except OSError:
            return {}
    return {}


def ask_module(run_folder: Path, module: str) -> dict[str, Any]:
    """A module's status as `warden status` asks for it; empty when no answer comes in half a second."""
    return _ask(run_folder / f"{module}.sock", _STATUS, "status")


def faults_of(ask: Callable[[str], Mapping[str, Any]]) -> list[str]:
    """What is wrong at a site now, in words; what is merely latched and waits for a resume is not."""
    answers = {module: ask(module) for module in ("reflex", "remote", "recorder")}
    silent = [f"{module} does not answer" for module, answer in answers.items() if not answer]
    if silent:
        return silent
    found: list[str] = []
    for module in ("reflex", "remote"):
        causes = answers[module]["channel"]["causes"]
        found += [f"{module}: {c['id']}" for c in causes if c["active"] and c["id"] != "peer_stop"]
        if answers[module]["latch_problem"]:
            found.append(f"{module}: {answers[module]['latch_problem']}")
    for name, seen in answers["reflex"]["inputs"].items():
        if seen["quality"] != "good" or seen["closed"] is False:
            found.append(f"input {name}: {seen}")
    return found
