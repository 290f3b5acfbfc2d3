"""`warden status`: what the permits say, as the robot reads them, and what the modules say of themselves."""

import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agent.ask import ANSWER_S, ask
from agent.core.causes import PEER_STOP
from agent.core.plan import Plan
from agent.core.responses import Response
from agent.permit import PermitReader
from agent.processes import PROCESSES

CHANNELS = ("reflex", "remote")


def gather(plan: Plan, timeout_s: float = ANSWER_S) -> dict[str, Any]:
    """PROTOCOL 7's object: what the robot may do, why not, and each module's pid, life and scheduling."""
    folder = Path(plan.run_dir) / plan.robot.id
    answers = {
        row.name: ask(folder / row.socket, {"type": "status"}, timeout_s) if row.socket else None
        for row in PROCESSES
    }
    now_ns = time.monotonic_ns()
    readers = [PermitReader(folder / f"{name}.permit") for name in CHANNELS]
    permits = [reader.read() for reader in readers]
    for reader in readers:
        reader.close()
    channels = {name: (answers[name] or {}).get("channel", {}) for name in CHANNELS}
    return {
        "robot_id": plan.robot.id,
        "response": Response(max(permit.response for permit in permits)).label,
        "epoch": sum(permit.epoch for permit in permits),
        "motion": all(now_ns < permit.motion_until_ns for permit in permits),
        "power": all(now_ns < permit.power_until_ns for permit in permits),
        "speed_permille": min(permit.speed_permille for permit in permits),
        "causes": [cause for channel in channels.values() for cause in channel.get("causes", [])],
        "blockers": sorted({code for channel in channels.values() for code in channel.get("blockers", [])}),
        "modules": {row.name: _module(answers[row.name]) for row in PROCESSES},
    }


def _module(answer: dict[str, Any] | None) -> dict[str, Any]:
    about = (answer or {}).get("module", {})
    told = {key: value for key, value in (answer or {}).items() if key not in ("type", "module", "channel")}
    return {
        "pid": about.get("pid"),
        "alive": answer is not None,
        "realtime": about.get("realtime"),
        **({"told": told} if told else {}),
    }


def show(plan: Plan, seen: dict[str, Any]) -> None:
    """The same for people."""
    console = Console()
    word = "may run 允许运行" if seen["motion"] else "stopped 已停机"
    colour = "green" if seen["motion"] else "red"
    name = escape(plan.robot.name)
    console.print(f"[bold]{plan.robot.id}[/] {name}  [{colour}]{word}[/]  response {seen['response']}")
    console.print(
        f"epoch {seen['epoch']}, power {'on' if seen['power'] else 'off'}, speed {seen['speed_permille']} ‰"
    )
    table = Table("module", "pid", "alive", "real time")
    for name, module in seen["modules"].items():
        table.add_row(
            name, str(module["pid"] or "-"), "yes" if module["alive"] else "NO", _realtime(module["realtime"])
        )
    console.print(table)
    _show_log(console, seen["modules"]["recorder"].get("told", {}))
    for cause in seen["causes"]:
        mark = "●" if cause["active"] else "○"
        if cause["id"] != PEER_STOP:
            texts = cause["text"]
            told = escape(f"{texts['zh']} / {texts['en']}")
            console.print(f" {mark} {cause['response']}: {told} ({cause['clear']})")
    if seen["blockers"]:
        console.print(f"before a resume: {', '.join(seen['blockers'])}")
    for name, module in seen["modules"].items():
        for reason in (module["realtime"] or {}).get("reasons", []):
            sys.stderr.write(f"{name}: {reason}\n")


def _show_log(console: Console, told: dict[str, Any]) -> None:
    """The sealed log in a line or two: how far it is, who has witnessed it, what stands against it."""
    ledger = told.get("ledger")
    if not ledger:
        return
    witnessed = told["witnessed"]
    by = f"witnessed 已见证 to {witnessed}" if witnessed >= 0 else "not witnessed 未见证"
    level = told["space"]
    console.print(f"log 日志: ledger entry {ledger['n']}, {by}; {level['means']}")
    if told["state_kept_by"] != "credential":
        console.print(
            "  its signing state is kept by a key file beside it, not by a sealed credential"
            " / 账本签名状态由日志旁的密钥文件保管，而非密封凭据"
        )
    for trouble in (told.get("trouble"), told.get("ledger_trouble")):
        if trouble:
            console.print(f"  [red]{escape(trouble)}[/]")
    for reason in told["memory"]["reasons"]:
        sys.stderr.write(f"recorder: {reason}\n")


def _realtime(report: dict[str, Any] | None) -> str:
    if report is None:
        return "-"
    granted = [kind for kind in ("fifo", "memory_locked", "collector_off") if report.get(kind)]
    return ", ".join(granted) or "no"
