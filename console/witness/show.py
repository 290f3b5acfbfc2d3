"""How `guardian witness` speaks: a board on a terminal, lines elsewhere, JSON objects for programs.

All that is shown is our own words, numbers, and names that were checked: no text out of a robot's entry.
"""

import json
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text as Line

from console.messages import clean
from console.witness.board import WitnessBoard
from console.witness.notices import REASONS, Kind, Notice

ALARM: Final = "警报 ALARM"
PROVEN: Final = "两份均由该机签名 both signed by the robot's own key"
NOT_KEPT: Final = "未能存盘 NOT kept on the disk"
STYLES: Final = {Kind.TAKEN: "dim", Kind.BACK: "bold green", Kind.FIRST_USE: "yellow"}


class WitnessShow(Protocol):
    """One way of speaking, open inside `with`."""

    def notice(self, notice: Notice) -> None: ...

    def link(self, *, up: bool, why: str) -> None:
        """`why`: the broker, or why there is none."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _Plain:
    """Nothing to open or to close."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class JsonShow(_Plain):
    """For programs: every line is an object with `type`, `notice` or `link`."""

    def notice(self, notice: Notice) -> None:
        words = notice.kind.value
        fields: dict[str, object] = {
            "notice": words.code,
            "alarm": words.alarm,
            "robot_id": notice.robot,
            "n": notice.n,
            "reason": notice.reason,
            "text": {"zh": words.text.zh, "en": words.text.en},
        }
        if notice.kind is Kind.TAKEN:
            fields["kind"] = notice.entry_kind
        if words.alarm:
            fields |= {"proven": notice.proven, "kept": notice.kept, "left_out": notice.left_out}
            fields["seconds"] = round(notice.seconds, 3)
        _line("notice", fields)

    def link(self, *, up: bool, why: str) -> None:
        _line("link", {"up": up, "reason": clean(why)})


class TextShow(_Plain):
    """For people, where no board can be drawn."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(soft_wrap=True, highlight=False, markup=False)

    def notice(self, notice: Notice) -> None:
        self.console.print(notice_line(notice))

    def link(self, *, up: bool, why: str) -> None:
        word, style = ("已连接 connected", "green") if up else ("未连接 NOT connected", "bold red")
        self.console.print(Line(f"{word}  {clean(why)}", style))


class BoardShow(TextShow):
    """A table that stays, with all but ordinary entries as lines above it."""

    def __init__(self, board: WitnessBoard, console: Console) -> None:
        super().__init__(console)
        self._live = Live(board, console=console, refresh_per_second=2)

    def notice(self, notice: Notice) -> None:
        if notice.kind is not Kind.TAKEN:
            super().notice(notice)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)


def notice_line(notice: Notice) -> Line:
    """One notice in one line; alarms are loud."""
    words = notice.kind.value
    style = STYLES.get(notice.kind, "bold red" if words.alarm else "yellow")
    head = f"{ALARM}  " if words.alarm and notice.kind is not Kind.BACK else ""
    line = Line(f"{head}{notice.robot}  {words.text}", style)
    if notice.n >= 0:
        line.append(f"  #{notice.n}")
    line.append("".join(f"  {part}" for part in _details(notice)))
    return line


def _details(notice: Notice) -> list[str]:
    words = notice.kind.value
    reason = str(REASONS.get(notice.reason, clean(notice.reason)))
    parts = [notice.entry_kind, reason, PROVEN if notice.proven else ""]
    parts.append(f"{notice.seconds:.0f} s" if notice.seconds else "")
    parts.append(f"另有 {notice.left_out} 条未列出 more left out" if notice.left_out else "")
    # Of a robot that is followed an alarm that could not be written is worth knowing.
    parts.append(NOT_KEPT if words.alarm and not notice.kept else "")
    return [part for part in parts if part]


def _line(kind: str, fields: dict[str, object]) -> None:
    print(json.dumps({"type": kind, **fields}, ensure_ascii=False), flush=True)  # noqa: T201 - its purpose
