"""The simulated robot as a process, with its permits and the agent's end of its link in a test's hand."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.permit import PermitWriter
from hil.node_orders import ask, connect
from tests.sdk.robot_agent import Agent
from tests.waiting import block_until

ROOT = Path(__file__).parents[2]
FOR_EVER_NS = 2**63
Account = dict[str, Any]


class Rig:
    """A robot process, its two permits, and the agent's end of its link."""

    def __init__(self, folder: Path, *options: str, pass_fds: tuple[int, ...] = ()) -> None:
        self.folder = folder
        self.reflex = PermitWriter(folder / "reflex.permit")
        self.remote = PermitWriter(folder / "remote.permit")
        self.agent = Agent(folder / "robot.sock")
        self.report = folder / "report.jsonl"
        self.report.touch()
        self.process = self._start(options or ("--auto-work", "--report", str(self.report)), pass_fds)
        self._control: socket.socket | None = None

    def _start(self, options: tuple[str, ...], pass_fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            "hil.robot",
            "--link",
            str(self.folder / "robot.sock"),
            "--name",
            "福小安",
        ]
        command += ["--control", str(self.folder / "control.sock"), *options]
        return subprocess.Popen(command, cwd=ROOT, pass_fds=pass_fds, stdout=subprocess.PIPE)

    def welcome(self) -> None:
        self.agent.accept()
        assert self.agent.heard() == {"type": "hello", "name": "福小安", "beat_ms": 20}
        permits = [str(self.folder / name) for name in ("reflex.permit", "remote.permit")]
        self.agent.say({"type": "welcome", "robot_id": "FT-1", "permits": permits, "ttl_ms": 100, "epoch": 2})

    def permit(self, *, epoch: int = 1, speed_permille: int = 1000, until_ns: int = FOR_EVER_NS) -> None:
        for writer in (self.reflex, self.remote):
            writer.write(
                motion_until_ns=until_ns,
                power_until_ns=FOR_EVER_NS,
                epoch=epoch,
                speed_permille=speed_permille,
                response=0,
            )

    def order(self, order: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401  (whatever an order takes)
        if self._control is None:
            block_until((self.folder / "control.sock").exists)
            self._control = connect(self.folder / "control.sock", 20)
        return ask(self._control, {"order": order, **fields})

    def account(self) -> Account:
        return self.order("account")

    def until(self, condition: Callable[[Account], bool]) -> Account:
        """The robot's first account that fulfils the condition."""

        def fulfilled() -> Account | None:
            account = self.account()
            return account if condition(account) else None

        found = block_until(fulfilled)
        assert found is not None
        return found

    def running(self) -> Account:
        return self.until(lambda account: account["speed_mps"] > 0.1)

    def still(self) -> Account:
        return self.until(lambda account: not account["moving"])

    def reported(self) -> list[Account]:
        """Every whole line of the report so far."""
        lines = self.report.read_text("utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def heard_beats(self, count: int) -> list[dict[str, Any]]:
        beats: list[dict[str, Any]] = []
        while len(beats) < count:
            message = self.agent.heard()
            if message["type"] == "beat":
                beats.append(message)
        return beats

    def heard_but_beats(self) -> dict[str, Any]:
        while (message := self.agent.heard())["type"] == "beat":
            pass
        return message

    def close(self) -> None:
        if self._control is not None:
            self._control.close()
        self.process.kill()
        self.process.communicate()
        self.agent.close()
        self.reflex.close()
        self.remote.close()
