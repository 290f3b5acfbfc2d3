"""A whole site, started once for each test file, and what tests see of it."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.core.responses import Response
from console.told import Stage
from hil.person import Person
from hil.site import Site
from tests.waiting import block_until

PACE_MPS = 0.3


class Scene:
    """One site with a guardian; every question is answered by the thing itself."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.guardian = Person(site.folder, "guardian-li", site.pki, site.broker)

    def moving(self) -> bool:
        return bool(self.site.account().get("moving"))

    def account(self) -> Mapping[str, Any]:
        return self.site.account()

    def relay(self, which: str) -> bool:
        node = self.site.node_a if which == "a" else self.site.node_b
        return node.control.state().relay

    def blockers(self) -> list[str]:
        seen = self.site.ask("reflex").get("channel", {}), self.site.ask("remote").get("channel", {})
        if not all(seen):
            return ["module away"]
        return [code for channel in seen for code in channel["blockers"]]

    def causes(self, module: str) -> dict[str, dict[str, Any]]:
        return {c["id"]: c for c in self.site.ask(module)["channel"]["causes"]}

    def response(self, module: str) -> Response:
        return Response(self.site.ask(module)["channel"]["response"])

    def epoch(self) -> int:
        return sum(self.site.ask(module)["channel"]["epoch"] for module in ("reflex", "remote"))

    def resume(self) -> list[Stage]:
        block_until(lambda: not self.blockers())
        return self.guardian.resume("test", retries=5)

    def run(self) -> None:
        """Brings the robot to a walking pace, whatever the test before left behind."""
        for node in (self.site.node_a, self.site.node_b):
            for name in ("estop", "bumper") if node is self.site.node_a else ():
                node.control.release(name)
        block_until(lambda: self.site.ask("reflex").get("robot", {}).get("connected"))
        block_until(self._gets_going)

    def _gets_going(self) -> bool:
        """Resumes, and again where a machine too busy to renew a permit in time stops it on its way."""
        channels = [self.site.ask(module).get("channel") for module in ("reflex", "remote")]
        if all(channels) and any(Response(c["response"]).stops for c in channels if c):
            self.resume()
        return bool(self.account().get("speed_mps", 0) > PACE_MPS)

    def stopped(self, since_ns: int) -> float:
        """Waits until the robot stands, by its own account; milliseconds since `since_ns`."""
        account = block_until(lambda: (a := self.account()).get("moving") is False and a)
        assert account
        return (int(account["standstill_ns"]) - since_ns) / 1e6

    def stays_stopped(self, cycles: int = 25) -> None:
        """The robot turned `cycles` of its own control loop since now and never moved."""
        first = self.account()["mono_ns"]

        def enough() -> bool:
            now = self.account()
            assert not now["moving"]
            assert now["may_move"] is False
            return bool(now["mono_ns"] - first >= cycles * 20_000_000)

        block_until(enough)

    def kill(self, module: str) -> int:
        return self.site.signal(module, signal.SIGKILL)

    def freeze(self, module: str) -> tuple[int, int]:
        """(pid, CLOCK_MONOTONIC right before)."""
        pid = self.site.pid(module)
        return pid, self.site.signal(module, signal.SIGSTOP)

    @staticmethod
    def kill_pid(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    @staticmethod
    def thaw(pid: int) -> None:
        os.kill(pid, signal.SIGCONT)

    def records(self) -> list[dict[str, Any]]:
        return self.site.records()


@pytest.fixture(scope="module")
def site_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="w"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def scene(site_folder: Path) -> Iterator[Scene]:
    with Site(site_folder, broker="mosquitto") as site:
        yield Scene(site)
