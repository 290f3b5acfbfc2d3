"""`guardian witness` on a terminal: one row per robot, those in trouble first."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from rich.table import Table
from rich.text import Text as Line

from console.witness.record import Robot, Witness

ROWS: Final = 30
"""What fits a screen; the rest is a number below."""


class WitnessBoard:
    """`clock`: as the witness's own."""

    def __init__(self, witness: Witness, clock: Callable[[], float] = time.monotonic) -> None:
        self._witness = witness
        self._clock = clock

    def __rich__(self) -> Table:
        table = Table("机器人 robot", "最新记录 last entry", "时间 age", "警报 alarms", "状态 state")
        rows = sorted(self._witness.robots.items(), key=self._urgency)
        for robot_id, robot in rows[:ROWS]:
            table.add_row(robot_id, *self._cells(robot_id, robot))
        if len(rows) > ROWS:
            table.caption = f"另有 {len(rows) - ROWS} 台机器人 more robots"
        return table

    def _urgency(self, row: tuple[str, Robot]) -> tuple[bool, bool, str]:
        robot_id, robot = row
        return (not (robot.silent or robot.trouble), not self._alarms(robot_id), robot_id)

    def _alarms(self, robot_id: str) -> int:
        return self._witness.alarms.counts.get(robot_id, Counter()).total()

    def _cells(self, robot_id: str, robot: Robot) -> tuple[Line, Line, Line, Line]:
        alarms = self._alarms(robot_id)
        return (
            Line("" if robot.head is None else f"#{robot.head.n}"),
            Line(f"{max(0.0, self._clock() - robot.since_s):.0f} s", "bold red" if robot.silent else ""),
            Line(str(alarms), "bold red" if alarms else "dim"),
            _state(robot),
        )


def _state(robot: Robot) -> Line:
    if robot.trouble:
        return Line("停止见证 not followed", "bold red")
    if robot.silent:
        return Line("沉默 silent", "bold red")
    if robot.head is None:
        return Line("未曾收到 never heard", "yellow")
    return Line("正常 in order", "green")
