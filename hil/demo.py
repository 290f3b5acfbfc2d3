"""`warden demo`.

The whole main job, live, on a simulated node and robot; exit 0 only if every step did what it says.

Every effect is seen where it matters: motion on the robot's own account, the relays on the nodes', the
records by verifying them. Nothing here is a mock: broker, terminal lines, processes and signals are real.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from rich.console import Console

from agent.core.responses import Response
from agent.errors import WardenError
from console.told import Stage
from hil.person import Person
from hil.site import Site

GUARDIAN = "guardian-li"
STEP_S = 10.0
STOPPED_WITHIN_MS = 1000.0
"""A demonstration, not a measurement: on any machine a stop that takes a second has gone wrong."""
RESUMES = 3
PACE_MPS = 0.5
SHOWN = (
    "warden_motion_permitted",
    "warden_epoch",
    "warden_stops_total",
    "warden_module_up",
    "warden_robot_beats_total",
)


class StepError(WardenError):
    """A step did not do what it says."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the demonstration."""

    zh: str
    en: str
    act: Callable[["Demo"], str]


class Demo:
    """One run of it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.guardian = Person(site.folder, GUARDIAN, site.pki, site.broker)

    # ------------------------------------------------------------------------------------------ what is seen

    def moving(self) -> bool:
        """By the robot's own account."""
        return bool(self.site.account().get("moving"))

    def gets_going(self) -> bool:
        """Whether it reaches a walking pace, so that stopping it means something, before it is stopped."""
        self.site.until(lambda: self._at_pace() or bool(self.stops()), "robot", deadline_s=STEP_S)
        return self._at_pace()

    def _at_pace(self) -> bool:
        return float(self.site.account().get("speed_mps", 0)) >= PACE_MPS

    def stops(self) -> list[str]:
        """The causes for which either channel holds the robot now."""
        channels = [self.site.ask(module).get("channel", {}) for module in ("reflex", "remote")]
        return sorted({key for channel in channels for key in channel.get("stops", ())})

    def stopped_after_ms(self, since_ns: int) -> float:
        """Waits for standstill by the robot's own account; milliseconds since `since_ns`."""
        account: dict[str, Any] = {}

        def still() -> bool:
            account.update(self.site.account())
            return account.get("moving") is False and (account.get("standstill_ns") or 0) > 0

        self.site.until(still, "robot", deadline_s=STEP_S)
        return (int(account["standstill_ns"]) - since_ns) / 1e6

    def relay(self, which: str) -> bool:
        """Whether the relay of node `a` or `b` is closed, by the node itself."""
        node = self.site.node_a if which == "a" else self.site.node_b
        return node.control.state().relay

    # -------------------------------------------------------------------------------------------- the steps

    def starts_stopped(self) -> str:
        """Nothing has been resumed: no motion, both relays open."""
        account = self.site.account()
        _need(
            account.get("may_move") is False and account.get("moving") is False, f"the robot says {account}"
        )
        _need(not self.relay("a") and not self.relay("b"), "a relay is closed")
        return "no permit, relays A and B open"

    def resumes(self) -> str:
        """A guardian resumes; the robot moves.

        A machine too busy to renew a permit in time stops the robot, as it must; that is said, and the
        guardian resumes again.
        """
        said: list[str] = []
        for _ in range(RESUMES):
            self.site.until(lambda: not self.guardian.state().blockers, "state", deadline_s=STEP_S)
            stages = self.guardian.resume("demo", retries=3)
            said.append(_told(stages))
            if stages[-1].stage == "actuated" and self.gets_going():
                return f"{'; '.join(said)}; moving at {self.site.account()['speed_mps']:.2f} m/s"
            said.append(f"stopped again ({', '.join(self.stops())})")
        raise StepError("; ".join(said))

    def estop(self) -> str:
        """The button is pressed; the robot stands, relay A drops."""
        pressed = self.site.node_a.control.press("estop")
        after_ms = self.stopped_after_ms(pressed.at_ns)
        _need(after_ms < STOPPED_WITHIN_MS, f"stood only after {after_ms:.0f} ms")
        self.site.until(lambda: not self.relay("a"), "relay A", deadline_s=STEP_S)
        opened = self.site.node_a.control.state().transitions[-1]
        open_ms = (opened.at_ns - pressed.at_ns) / 1e6
        return f"relay A open {open_ms:.1f} ms, robot still {after_ms:.1f} ms after the press"

    def refused(self) -> str:
        """While the button is pressed nobody can resume."""
        stages = self.guardian.resume("demo", retries=3)
        _need(stages[-1].stage == "refused" and not self.moving(), _told(stages))
        return _told(stages)

    def released(self) -> str:
        """The button is reset, which alone restarts nothing; then a guardian resumes."""
        self.site.node_a.control.release("estop")
        self.site.until(lambda: not self.guardian.state().blockers, "state", deadline_s=STEP_S)
        _need(not self.moving(), "the reset alone started the robot")
        return self.resumes()

    def guardian_stop(self) -> str:
        """A stop over MQTT, told stage by stage; relay B drops."""
        sent_ns = time.monotonic_ns()
        stages = self.guardian.stop(Response.EMERGENCY_STOP, "demo")
        _need(stages[-1].stage == "verified", _told(stages))
        after_ms = self.stopped_after_ms(sent_ns)
        _need(not self.relay("b"), "relay B is closed")
        return f"{_told(stages)}; robot still {after_ms:.0f} ms after the command was begun, relay B open"

    def kill_reflex(self) -> str:
        """Kill -9: nobody orders anything, the robot stops by itself."""
        sent_ns = self.site.signal("reflex", signal.SIGKILL)
        after_ms = self.stopped_after_ms(sent_ns)
        _need(after_ms < STOPPED_WITHIN_MS, f"stood only after {after_ms:.0f} ms")
        self.site.until(self._robot_connected, "reflex", deadline_s=STEP_S)
        _need(not self.moving(), "the restart alone started the robot")
        return f"robot still {after_ms:.1f} ms after SIGKILL; reflex is back, the robot stays stopped"

    def freeze_remote(self) -> str:
        """SIGSTOP: the permit runs out, the robot stops by itself, and stays stopped after SIGCONT."""
        pid = self.site.pid("remote")
        sent_ns = time.monotonic_ns()
        os.kill(pid, signal.SIGSTOP)
        try:
            after_ms = self.stopped_after_ms(sent_ns)
        finally:
            os.kill(pid, signal.SIGCONT)
        _need(after_ms < STOPPED_WITHIN_MS, f"stood only after {after_ms:.0f} ms")
        self.site.until(lambda: bool(self.site.ask("remote")), "remote", deadline_s=STEP_S)
        _need(not self.moving(), "SIGCONT alone started the robot")
        return f"robot still {after_ms:.1f} ms after SIGSTOP; awake again, the robot stays stopped"

    def records(self) -> str:
        """Everything acknowledged is there and nothing was altered."""
        report = self.site.verify_log()
        # Not 0 while the recorder runs: the newest segments are open, and that is said.
        _need(report.exit_code in (0, 1), f"verify ended with {report.exit_code}: {report.counts}")
        senders = {record["source"] for record in self.site.records()}
        _need({"reflex", "remote"} <= senders, f"records only of {sorted(senders)}")
        return (
            f"{report.records} sealed records of {', '.join(sorted(senders))}, opened with a recipient's key;"
            f" {report.entries} signed ledger entries, nothing altered"
        )

    def metrics(self) -> str:
        """What Prometheus would scrape."""
        url = f"http://{self.site.metrics_address()}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        shown = [line for line in lines if line.startswith(SHOWN) and not line.endswith(" 0.0")]
        _need(bool(shown), "no metric of ours")
        return f"{len(lines)} lines at {url}\n" + "\n".join(f"      {line}" for line in shown)

    def _robot_connected(self) -> bool:
        return bool(self.site.ask("reflex").get("robot", {}).get("connected"))


STEPS = (
    Step("启动即停机", "start: stopped", Demo.starts_stopped),
    Step("监护人恢复运行，机器人移动", "guardian resumes, robot moves", Demo.resumes),
    Step("按下急停", "e-stop pressed", Demo.estop),
    Step("按住急停时恢复被拒绝", "resume refused while pressed", Demo.refused),
    Step("复位后恢复", "released, then resumed", Demo.released),
    Step("监护人经 MQTT 急停", "guardian's stop over MQTT", Demo.guardian_stop),
    Step("恢复", "resume", Demo.resumes),
    Step("强杀 reflex (kill -9)", "reflex killed with kill -9", Demo.kill_reflex),
    Step("恢复", "resume", Demo.resumes),
    Step("冻结 remote (SIGSTOP)", "remote frozen with SIGSTOP", Demo.freeze_remote),
    Step("恢复", "resume", Demo.resumes),
    Step("核验记录", "records verified", Demo.records),
    Step("指标", "metrics", Demo.metrics),
)


def run_demo(*, keep: bool, broker: str, as_json: bool) -> int:
    """The exit code: 0 when every step did what it says."""
    folder = Path(tempfile.mkdtemp(prefix="warden-"))
    console = Console(highlight=False, soft_wrap=True)
    begun_s = time.monotonic()
    # As Ctrl-C does: whatever was started is ended. By itself SIGTERM would leave every process behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Site(folder, broker=cast("Literal['auto', 'mosquitto', 'embedded']", broker)) as site:
            _head(console, site, time.monotonic() - begun_s, as_json=as_json)
            code = _steps(console, Demo(site), as_json=as_json)
            if keep and code == 0:
                _keep(console, site, as_json=as_json)
            return code
    except (WardenError, OSError) as error:
        row = {"ok": False, "error": str(error)}
        _tell(console, row, f"[red]✘[/] {_plain(str(error))}", as_json=as_json)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _steps(console: Console, demo: Demo, *, as_json: bool) -> int:
    for number, step in enumerate(STEPS, 1):
        begun_s = time.monotonic()
        try:
            said, good = step.act(demo), True
        except (WardenError, OSError, KeyError) as error:
            said, good = f"{type(error).__name__}: {error}", False
        took_s = round(time.monotonic() - begun_s, 2)
        row = {"step": number, "zh": step.zh, "en": step.en, "ok": good, "seconds": took_s, "said": said}
        mark = "[green]✔[/]" if good else "[red]✘[/]"
        _tell(
            console,
            row,
            f"{mark} [bold]{number:2} {step.zh}[/] {step.en}\n     {_plain(said)}",
            as_json=as_json,
        )
        if not good:
            return 1
    return 0


def _tell(console: Console, row: Mapping[str, object], line: str, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    else:
        console.print(line)


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


def _head(console: Console, site: Site, seconds: float, *, as_json: bool) -> None:
    row = {
        "robot": site.robot_id,
        "broker": site.broker.kind,
        "set_up_seconds": round(seconds, 2),
        "plan": str(site.plan),
    }
    line = (
        f"[bold]{site.robot_id} {site.pki.robot_name}[/]  broker {site.broker.kind} {site.broker.url}, "
        f"two safety nodes, a robot, the agent; set up in {seconds:.1f} s"
    )
    _tell(console, row, line, as_json=as_json)


def _keep(console: Console, site: Site, *, as_json: bool) -> None:
    row = {"kept": True, "robot": site.robot_id, "plan": str(site.plan)}
    _tell(console, row, _to_try(site), as_json=as_json)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


def _to_try(site: Site) -> str:
    profile = site.folder / f"{GUARDIAN}.toml"
    bin_dir = Path(sys.executable).parent
    return f"""
[bold]运行中 It goes on running.[/] Try:
  {bin_dir}/guardian --help
  {bin_dir}/guardian watch {site.robot_id} --profile {profile}
  {bin_dir}/guardian stop {site.robot_id} --profile {profile} --reason try
  {bin_dir}/guardian resume {site.robot_id} --profile {profile}
  {bin_dir}/warden status --config {site.plan}
  {sys.executable} -m hil.node order {site.node_a.control.path} press estop
  {sys.executable} -m hil.node order {site.node_a.control.path} release estop
Ctrl-C ends it. / 按 Ctrl-C 结束。"""


def _told(stages: list[Stage]) -> str:
    """`accepted 2.1 ms, actuated 2.4 ms`."""
    parts = [
        f"{stage.stage}{f' ({stage.reason})' if stage.reason else ''} {(stage.after_us or 0) / 1000:.1f} ms"
        for stage in stages
        if stage.stage != "sent"
    ]
    return ", ".join(parts) or "no answer"


def _need(true: bool, otherwise: str) -> None:
    if not true:
        raise StepError(otherwise)
