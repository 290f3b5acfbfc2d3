"""How `guardian` speaks: lines for people, Chinese beside English, or one JSON object per line for programs.

What robots sign was cleaned when it was read (console/messages.py); what nobody signed is cleaned here.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text as Line

from agent.errors import WardenError
from console.errors import DONE, FAILED, NO_ANSWER, REFUSED
from console.messages import Cause, State, clean
from console.texts import (
    CLEARS,
    RESPONSES,
    SILENT,
    SILENT_NO_STOP,
    STAGES,
    UNVERIFIED,
    Advice,
    Text,
    advice,
    of,
)
from console.told import STATE_FRESH_S, EventSeen, LinkSeen, Problem, Stage, StateSeen, Update

STYLES: Mapping[str, str] = {
    "sent": "dim",
    "accepted": "",
    "actuated": "yellow",
    "verified": "bold green",
    "refused": "bold red",
    "failed": "bold red",
    "silent": "bold red",
    "unverified": "bold red",
}
RESULTS: Mapping[int, Text] = {
    DONE: Text("完成", "done"),
    FAILED: Text("失败", "failed"),
    REFUSED: Text("被拒绝", "refused"),
    NO_ANSWER: Text("未在限定时间内应答", "no answer in time"),
}
STOPPED = Text("已停稳", "stopped, and standstill was seen")


class Show(Protocol):
    """One way of speaking."""

    def stage(self, cmd: str, stage: Stage) -> None: ...

    def result(self, cmd: str, stages: Sequence[Stage], exit_code: int) -> None: ...

    def state(self, state: State, age_s: float) -> None: ...

    def update(self, update: Update) -> None: ...

    def warning(self, text: str) -> None: ...

    def error(self, error: WardenError, exit_code: int) -> None: ...


class ShowJson:
    """For programs: every line is an object with `type`."""

    def stage(self, cmd: str, stage: Stage) -> None:
        """`stage`: see console/told.py."""
        _line("stage", {"cmd": cmd, **_stage_fields(stage)})

    def result(self, cmd: str, stages: Sequence[Stage], exit_code: int) -> None:
        """The last line of a command."""
        robots = {stage.robot_id: stage.stage for stage in stages if stage.stage != "unverified"}
        _line("result", {"cmd": cmd, "done": exit_code == DONE, "exit": exit_code, "robots": robots})

    def state(self, state: State, age_s: float) -> None:
        """All that the robot signed, and how old it is by this machine's clock."""
        _line("state", {**state.claims, "robot_id": state.iss, "age_s": round(age_s, 3)})

    def update(self, update: Update) -> None:
        """One line of `watch`."""
        match update:
            case StateSeen(robot_id, state):
                _line("state", {**state.claims, "robot_id": robot_id})
            case EventSeen(robot_id, event):
                _line("event", {**event.claims, "robot_id": robot_id})
            case LinkSeen(robot_id, online):
                _line("link", {"robot_id": robot_id, "online": online, "signed": False})
            case Problem(robot_id, topic, code, reason):
                _line("problem", {"robot_id": robot_id, "topic": topic, "code": code, "reason": reason})

    def warning(self, text: str) -> None:
        """What does not stop the command."""
        _line("warning", {"warning": text})

    def error(self, error: WardenError, exit_code: int) -> None:
        """What ends it."""
        _line("error", {"error": str(error), "exit": exit_code})


class ShowText:
    """For people."""

    def __init__(self, console: Console | None = None) -> None:
        # Without soft_wrap a pipe would get lines cut at 80 columns.
        self.console = console or Console(soft_wrap=True, highlight=False, markup=False)

    def stage(self, cmd: str, stage: Stage) -> None:
        """One line, and for a stage that needs it what to do."""
        line = Line(f"{clean(stage.robot_id)}  {of(STAGES, stage.stage)}", STYLES.get(stage.stage, ""))
        if stage.after_us is not None:
            line.append(f"   机器人 robot {stage.after_us / 1000:.1f} ms", "")
        if stage.stage != "sent":
            line.append(f"   本机 here {stage.here_ms:.1f} ms", "dim")
        self.console.print(line)
        self._advise(_advice(cmd, stage), stage.reason)

    def result(self, cmd: str, stages: Sequence[Stage], exit_code: int) -> None:
        """A table when several robots were meant, then the outcome."""
        robots = {stage.robot_id: stage for stage in stages if stage.stage != "unverified"}
        if len(robots) > 1:
            self.console.print(_table(robots))
        text = STOPPED if cmd == "stop" and exit_code == DONE else RESULTS[exit_code]
        self.console.print(Line(f"{cmd}: {text}", "bold green" if exit_code == DONE else "bold red"))

    def state(self, state: State, age_s: float) -> None:
        """What stopped the robot and what stands before a resume."""
        head = f"{state.iss} {state.name}  {of(RESPONSES, state.response)}"
        line = Line(f"{head}   epoch {state.epoch}", "bold")
        line.append(f"   {age_s:.0f} s 前 ago", "" if age_s <= STATE_FRESH_S else "bold red")
        self.console.print(line)
        # Both modules may have the same cause: people need it once.
        for words, active in dict.fromkeys((cause_line(cause), cause.active) for cause in state.causes):
            self.console.print(Line(f"  原因 cause  {words}", "" if active else "dim"))
        for code in state.blockers:
            self.console.print(Line(f"  阻碍 blocker  {blocker_line(code)}", "red"))

    def update(self, update: Update) -> None:
        """One line of `watch` where no table can be drawn."""
        self.console.print(update_line(update))

    def warning(self, text: str) -> None:
        """On standard error, so that it never mixes with the answer."""
        print(f"guardian: 注意 warning: {clean(text)}", file=sys.stderr)  # noqa: T201 - its purpose

    def error(self, error: WardenError, exit_code: int) -> None:
        """One line on standard error."""
        print(f"guardian: {clean(str(error))}", file=sys.stderr)  # noqa: T201 - its purpose

    def _advise(self, found: Advice | None, reason: str) -> None:
        if reason:
            meaning = f"  {found.meaning}" if found else ""
            self.console.print(Line(f"  {reason}{meaning}", "red"))
        elif found:
            self.console.print(Line(f"  {found.meaning}", "red"))
        if found:
            self.console.print(Line(f"  → {found.remedy}", "red"))


def cause_line(cause: Cause) -> str:
    """A cause: what it is called, whether it still stands, and what ends it."""
    words = " ".join(part for part in (cause.text.zh, cause.text.en) if part) or cause.id
    standing = "仍存在 active" if cause.active else "已消除 gone"
    return f"{words} [{cause.id}]  {standing}  {of(CLEARS, cause.clear)}"


def blocker_line(code: str) -> str:
    """What stands before a resume, and what to do about it."""
    found = advice(code)
    return f"{code}  {found.meaning}  → {found.remedy}" if found else code


def update_line(update: Update) -> Line:
    """One thing a robot told, in one line."""
    robot = clean(update.robot_id)
    match update:
        case StateSeen(_, state):
            causes = ", ".join(dict.fromkeys(cause.id for cause in state.causes))
            return Line(f"{robot}  {of(RESPONSES, state.response)}  epoch {state.epoch}  {causes}".rstrip())
        case EventSeen(_, event):
            return Line(f"{robot}  事件 event  {event.words}")
        case LinkSeen(_, online):
            return Line(f"{robot}  {'在线 online' if online else '离线 offline'}", "" if online else "red")
        case Problem(_, topic, code, reason):
            words = clean(f"{topic}: {code}: {reason}")
            return Line(f"{robot}  {STAGES['unverified']}  {words}", "bold red")


def _advice(cmd: str, stage: Stage) -> Advice | None:
    if stage.stage == "silent":
        return SILENT if cmd == "stop" else SILENT_NO_STOP
    if stage.stage == "unverified":
        return UNVERIFIED
    return advice(stage.reason)


def _table(robots: Mapping[str, Stage]) -> Table:
    table = Table()
    for name in ("机器人 robot", "结果 result", "原因 reason", "机器人 robot ms", "本机 here ms"):
        table.add_column(name, overflow="fold")
    for robot_id, stage in sorted(robots.items()):
        after = "" if stage.after_us is None else f"{stage.after_us / 1000:.1f}"
        result = Line(of(STAGES, stage.stage), STYLES.get(stage.stage, ""))
        table.add_row(clean(robot_id), result, stage.reason, after, f"{stage.here_ms:.1f}")
    return table


def _stage_fields(stage: Stage) -> dict[str, object]:
    text = STAGES.get(stage.stage)
    found = advice(stage.reason)
    return {
        "robot_id": stage.robot_id,
        "stage": stage.stage,
        "reason": stage.reason,
        "after_us": stage.after_us,
        "here_ms": round(stage.here_ms, 3),
        "text": {"zh": text.zh, "en": text.en} if text else {},
        "remedy": {"zh": found.remedy.zh, "en": found.remedy.en} if found else {},
    }


def _line(kind: str, fields: Mapping[str, object]) -> None:
    """What a robot signed may have any field at all: `type` stays ours."""
    line = json.dumps({"type": "", **fields} | {"type": kind}, ensure_ascii=False)
    print("".join(map(_escaped, line)), flush=True)  # noqa: T201 - its purpose


def _escaped(character: str) -> str:
    """JSON leaves some characters as they are that a terminal obeys; all of them stand inside strings."""
    return character if character.isprintable() else json.dumps(character)[1:-1]
