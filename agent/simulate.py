"""`warden run --simulate`: every device of the plan replaced by its simulator, and a panel to act on them.

On a terminal the panel is shown and takes keys; elsewhere it takes the same words line by line on standard
input (`press estop`, `vary front_range 0.4`, `quit`). Either way it writes the panel's file again and again:
a panel that died, hangs or was suspended is a far end that is silent, and the robot stops.
"""

import os
import sys
import termios
import tty
from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from agent.core.plan import DeviceSpec, Plan
from agent.status import gather
from drivers.registry import check_settings
from drivers.sim import panel
from drivers.sim.state import ACTS, SimState, act

REFRESH_S = 0.25
START_VALUE = 1.0
"""What every quantity reads at the start, in its own unit."""
STEP = 0.05
"""One key press changes a quantity by so much of its magnitude."""


def panel_path(plan: Plan) -> Path:
    """Where the panel's file is: beside the permits."""
    return Path(plan.run_dir) / plan.robot.id / "panel.json"


def simulated(plan: Plan) -> Plan:
    """The plan with every device replaced; conditions, times and rights stay what they are."""
    path = {"panel": str(panel_path(plan))}
    contact = {**path, "value": START_VALUE}
    quantity = {**contact, "quantity": "value"}
    inputs = {
        name: replace(spec, device=_sim("input", contact if spec.contact else quantity))
        for name, spec in plan.inputs.items()
    }
    outputs = {
        name: replace(spec, device=_sim("output", {**path, "relay": number}))
        for number, (name, spec) in enumerate(plan.outputs.items())
    }
    return replace(plan, inputs=inputs, outputs=outputs)


def _sim(role: str, settings: Mapping[str, object]) -> DeviceSpec:
    return DeviceSpec("sim", check_settings("sim", role, settings))


class Controls:
    """What a person does to the simulated devices; each act is in the panel's file when it returns."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.quantities = {name for name, spec in plan.inputs.items() if not spec.contact}
        self.states = {name: SimState(value=START_VALUE) for name in (*plan.inputs, *plan.outputs)}
        self._path = panel_path(plan)
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        self.beat()

    def beat(self) -> None:
        """Says how everything is, as it must again and again for the devices to go on believing it."""
        panel.write(self._path, self.states)

    def do(self, word: str, name: str, value: float = 0.0) -> str:
        """One act; what was wrong with it, or an empty string."""
        if name not in self.states:
            return f"{name!r}: known are {', '.join(self.states)}"
        if word not in ACTS:
            return f"{word!r}: known are {', '.join(ACTS)}, quit"
        self.states[name] = act(self.states[name], word, value)
        self.beat()
        return ""

    def line(self, text: str) -> str:
        """One line of words: `press estop`, `vary front_range 0.4`; what was wrong with it, or ""."""
        words = text.split()
        if not 2 <= len(words) <= 3:
            return "say: WORD NAME [VALUE]"
        try:
            value = float(words[2]) if len(words) == 3 else 0.0
        except ValueError:
            return f"{words[2]!r} is no number"
        return self.do(words[0], words[1], value)


def attach(loop: AbstractEventLoop, controls: Controls, end: Callable[[], None]) -> Callable[[], None]:
    """Takes a person's acts from standard input until `end`; gives what to call at the end."""
    # A dumb terminal shows no panel: it takes the words of a pipe.
    screen = sys.stdin.isatty() and sys.stdout.isatty() and not Console().is_dumb_terminal
    parts = _Beats(loop, controls), (_Keys if screen else _Lines)(loop, controls, end)

    def detach() -> None:
        for part in parts:
            part.close()

    return detach


class _Beats:
    """The panel's beats, for as long as this loop turns, whether or not anybody can say anything."""

    def __init__(self, loop: AbstractEventLoop, controls: Controls) -> None:
        self._loop = loop
        self._controls = controls
        self._timer = loop.call_later(panel.BEAT_S, self._turn)

    def _turn(self) -> None:
        # First the next one: a disk that is full for a moment must not be the last beat.
        self._timer = self._loop.call_later(panel.BEAT_S, self._turn)
        self._controls.beat()

    def close(self) -> None:
        """Idempotent."""
        self._timer.cancel()


class _Lines:
    """Words, line by line, from a pipe or a file."""

    def __init__(self, loop: AbstractEventLoop, controls: Controls, end: Callable[[], None]) -> None:
        self._loop = loop
        self._controls = controls
        self._end = end
        self._held = b""
        self._fd = sys.stdin.fileno()
        try:
            loop.add_reader(self._fd, self._readable)
        except (OSError, ValueError):  # a plain file or /dev/null: nobody will say anything
            self._fd = -1

    def _readable(self) -> None:
        data = os.read(self._fd, 4096)
        if not data:
            self.close()
            return
        *lines, self._held = (self._held + data).split(b"\n")
        self._held = self._held[-4096:]
        for line in lines:
            self._take(line.decode("utf-8", "replace").strip())

    def _take(self, text: str) -> None:
        if text == "quit":
            self._end()
        elif text:
            wrong = self._controls.line(text)
            sys.stdout.write(f"{wrong or 'done'}\n")
            sys.stdout.flush()

    def close(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._fd = -1


KEYS = {
    "p": ("press", "release"),
    "a": ("cut_a", ""),
    "b": ("cut_b", ""),
    "w": ("weld_a", ""),
    "s": ("silence", ""),
    "f": ("break", ""),
    "j": ("jam", ""),
    "h": ("heal", ""),
}
"""Key → the act, and the one that undoes it where the same key does."""


class _Keys:
    """The panel on a terminal."""

    def __init__(self, loop: AbstractEventLoop, controls: Controls, end: Callable[[], None]) -> None:
        self._loop = loop
        self._controls = controls
        self._end = end
        self._chosen = 0
        self._fd = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd)
        self._live = Live(self._picture(), console=Console(), auto_refresh=False, transient=False)
        self._live.start()
        loop.add_reader(self._fd, self._key)
        self._timer = loop.call_later(REFRESH_S, self._refresh)

    def close(self) -> None:
        """Gives the terminal back as it was; idempotent."""
        if self._fd < 0:
            return
        self._timer.cancel()
        self._loop.remove_reader(self._fd)
        self._live.stop()
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
        self._fd = -1

    def _key(self) -> None:
        for key in os.read(self._fd, 64).decode("utf-8", "replace"):
            self._take(key)
        self._live.update(self._picture(), refresh=True)

    def _take(self, key: str) -> None:
        names = list(self._controls.states)
        name = names[self._chosen]
        state = self._controls.states[name]
        if key == "q":
            self._end()
        elif key.isdigit() and 1 <= int(key) <= len(names):
            self._chosen = int(key) - 1
        elif key in "+-":
            step = max(abs(state.value), 1.0) * STEP * (1 if key == "+" else -1)
            self._controls.do("vary", name, state.value + step)
        elif key in KEYS:
            word, undo = KEYS[key]
            self._controls.do(undo if undo and state.pressed else word, name)

    def _refresh(self) -> None:
        self._live.update(self._picture(), refresh=True)
        self._timer = self._loop.call_later(REFRESH_S, self._refresh)

    def _picture(self) -> Group:
        return Group(self._devices(), self._robot(), _HELP)

    def _devices(self) -> Table:
        table = Table("", "name 名称", "reads 读数", "done to it 操作", title="simulated devices 模拟设备")
        for number, (name, state) in enumerate(self._controls.states.items(), 1):
            mark = "▶" if number - 1 == self._chosen else " "
            table.add_row(f"{mark}{number}", name, self._reads(name, state), _done(state))
        return table

    def _reads(self, name: str, state: SimState) -> str:
        if name in self._controls.plan.outputs:
            return "relay 继电器"
        if name in self._controls.quantities:
            return f"{state.value:g}"
        return "closed 闭合 (safe)" if all(state.contacts) else "open 断开"

    def _robot(self) -> Table:
        seen = gather(self._controls.plan, timeout_s=0.05)
        word = "[green]may run 允许运行[/]" if seen["motion"] else "[red]stopped 已停机[/]"
        table = Table("robot", "response", "epoch", "causes 原因")
        causes = ", ".join(dict.fromkeys(c["text"]["zh"] for c in seen["causes"] if c["id"] != "peer_stop"))
        table.add_row(word, seen["response"], str(seen["epoch"]), causes or "-")
        return table


_HELP = (
    "1-9 choose 选择 · p press/release 按下/释放 · a b cut a wire 断线 · w weld 粘连 · s silence 静默 · "
    "f break 故障 · + - vary 调节 · j jam a relay 卡住 · h heal 恢复 · q quit 退出"
)


def _done(state: SimState) -> str:
    plain = SimState(value=state.value)
    names = ("pressed", "cut_a", "cut_b", "welded_a", "welded_b", "silent", "faulty", "jammed")
    return ", ".join(name for name in names if getattr(state, name) != getattr(plain, name))
