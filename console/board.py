"""`guardian watch` on a terminal: one row per robot, kept up to date, with events as lines above it."""

from collections.abc import Callable

from rich.table import Table
from rich.text import Text as Line

from agent.core.responses import Response
from console.messages import Cause, State, clean
from console.show import blocker_line
from console.texts import RESPONSES, of
from console.told import STATE_FRESH_S, LinkSeen, Problem, StateSeen, Update

MAX_PROBLEMS = 100
_RUNNING = frozenset({Response.NONE.label, Response.WARN.label, Response.RESTRICT.label})


class Board:
    """What is known of each robot. `now_s`: seconds since 1970, asked anew each time the table is drawn.

    A problem is told once, and again only after a state that was in order: a flood must not hide the rest.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._states: dict[str, State] = {}
        self._online: dict[str, bool] = {}
        self._told: set[tuple[str, str, str]] = set()

    def take(self, update: Update) -> bool:
        """True when there is no more to say about it; False when it is to be a line of its own."""
        if isinstance(update, Problem):
            return self._is_told((update.robot_id, update.topic, update.code))
        if isinstance(update, StateSeen):
            self._states[update.robot_id] = update.state
            self._told = {told for told in self._told if told[0] != update.robot_id}
            return True
        if isinstance(update, LinkSeen):
            self._online[update.robot_id] = update.online
            return True
        return False

    def _is_told(self, problem: tuple[str, str, str]) -> bool:
        if problem in self._told or len(self._told) >= MAX_PROBLEMS:
            return True
        self._told.add(problem)
        return False

    def __rich__(self) -> Table:
        table = Table(
            "机器人 robot", "状态 state", "模块 modules", "原因 causes", "阻碍 blockers", "更新 age"
        )
        for robot_id in sorted(self._states.keys() | self._online.keys()):
            state = self._states.get(robot_id)
            name = Line(clean(f"{robot_id} {state.name if state else ''}".rstrip()))
            if self._online.get(robot_id) is False:
                name.append("\n离线 offline", "red")
            table.add_row(name, *(self._cells(state) if state else ("", "", "", "", "")))
        return table

    def _cells(self, state: State) -> tuple[Line, Line, Line, Line, Line]:
        age_s = max(0.0, self._now_s() - state.iat)
        fresh = age_s <= STATE_FRESH_S
        style = "bold green" if state.response in _RUNNING else "bold red"
        return (
            Line(f"{of(RESPONSES, state.response)}\nepoch {state.epoch}", style if fresh else "dim"),
            _modules(state),
            _lines([_cause(*cause) for cause in dict.fromkeys(map(_said, state.causes))]),
            _lines([Line(blocker_line(code)) for code in state.blockers]),
            Line(f"{age_s:.0f} s", "" if fresh else "bold red"),
        )


def _modules(state: State) -> Line:
    return _lines(
        [
            Line(f"{name} {channel.response}", "" if channel.alive else "bold red")
            for name, channel in sorted(state.channels.items())
        ]
    )


def _said(cause: Cause) -> tuple[str, bool]:
    """What is said of a cause; both modules may have the same one, and people need it once."""
    return " ".join(part for part in (cause.text.zh, cause.text.en) if part) or cause.id, cause.active


def _cause(words: str, active: bool) -> Line:
    return Line(words, "red" if active else "dim")


def _lines(lines: list[Line]) -> Line:
    return Line("\n").join(lines)
