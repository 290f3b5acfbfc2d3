"""The simulated robot: a process that lives under robot-warden as a real one would, through `sdk/python`.

    python -m hil.robot --link /run/warden/FT-2024-0017/robot.sock --name 福小安 --auto-work --report -

Its control loop turns at 50 Hz on absolute deadlines: orders, messages, permits, drives, beat, account. It
begins without permits (the link's welcome names them) and so without motion; when the agent goes away the
permits alone decide, and the link is sought again.

Report: JSON lines, its own account of itself, at each change and every 100 ms. `mono_ns`: when the line was
made. `read_ns`: right before the permits were read; `may_move`, `may_power`, `speed_permille`, `epoch` and
`response` are what they said. `x_m`, `y_m`, `speed_mps`, `moving`, `standstill_ns` (since when; null on the
move), `task`, `work_epoch`, `dropped` (orders). `connected`, `beats`, `late_cycles`, `state` and `verdict`
(the agent's last messages of these types, or null), `lost` (lines nobody took).

Control: a SOCK_SEQPACKET socket, one JSON object per packet with the key `order`; each is answered by one
with `ok`, and `reason` where that is false. The orders are the table `ORDERS`.
"""

import argparse
import errno
import json
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from hil.pilot import NOT_PERMITTED, NS_PER_MS, Pilot
from hil.plane import Body, Limits
from sdk.python.robot_warden import Permits, RobotLink

_REPORT_NS = 100 * NS_PER_MS
_RETRY_NS = (50 * NS_PER_MS, 1000 * NS_PER_MS)
_MAX_ORDER = 8192
_TOLD_AT_ONCE = ("may_move", "may_power", "epoch", "moving", "work_epoch", "connected", "state", "verdict")


class Report:
    """The account as JSON lines. A reader that does not keep up loses lines, and never holds up the robot."""

    def __init__(self, target: str) -> None:
        """`target`: `-` for standard output, the number of an open descriptor, or a file to append to."""
        self.lost = 0
        self._fd = _open_report(target)
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            os.set_blocking(self._fd, False)

    def write(self, line: Mapping[str, Any]) -> None:
        """One line; it is shorter than PIPE_BUF, so a pipe takes it whole or not at all."""
        try:
            os.write(self._fd, json.dumps(line, ensure_ascii=False).encode() + b"\n")
        except OSError:
            self.lost += 1

    def close(self) -> None:
        """Lets the descriptor go."""
        os.close(self._fd)


def _open_report(target: str) -> int:
    if target == "-":
        return sys.stdout.fileno()
    if target.isdecimal():
        return int(target)
    return os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)


class Control:
    """The socket on which a person or a test gives orders. `obey`: takes an order, returns the answer."""

    def __init__(self, path: Path, obey: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
        self._obey = obey
        self._people: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.setblocking(False)
        try:
            self._listen(path)
        except OSError:
            self._listener.close()
            raise

    def _listen(self, path: Path) -> None:
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise FileExistsError(errno.EEXIST, "is there already, and no socket", os.fspath(path))
        # Seen only once it listens: whoever waits for the name may connect at once.
        hidden = path.with_name(f"{path.name}.new")
        hidden.unlink(missing_ok=True)
        self._listener.bind(os.fspath(hidden))
        self._listener.listen()
        hidden.replace(path)

    def poll(self) -> None:
        """Takes every order that has come, and answers it."""
        with suppress(BlockingIOError):
            while True:
                person, _ = self._listener.accept()
                person.setblocking(False)
                self._people.append(person)
        self._people = [person for person in self._people if self._serve(person)]

    def close(self) -> None:
        """Hangs up on everybody."""
        for end in (self._listener, *self._people):
            end.close()

    def _serve(self, person: socket.socket) -> bool:
        """False when that person has gone."""
        try:
            while packet := person.recv(_MAX_ORDER):
                person.send(json.dumps(self._answer(packet), ensure_ascii=False).encode())
        except BlockingIOError:
            return True
        except OSError:
            pass
        person.close()
        return False

    def _answer(self, packet: bytes) -> Mapping[str, Any]:
        try:
            order = json.loads(packet)
        except (ValueError, RecursionError):
            order = None
        if not isinstance(order, dict) or not isinstance(order.get("order"), str):
            return {"ok": False, "reason": "not a JSON object with an order"}
        return self._obey(order)


class Leash:
    """A pipe whose other end dies with whoever started this process, however that one ends."""

    def __init__(self, fd: int) -> None:
        """`fd`: the end that is read; nothing that is said on it counts."""
        self._fd = fd
        os.set_blocking(fd, False)

    def is_cut(self) -> bool:
        """True once nobody holds the other end any more."""
        try:
            return not os.read(self._fd, 4096)
        except BlockingIOError:
            return False
        except OSError:  # a socket says so where something that it sent was never read
            return True


class Robot:
    """The shell around the pilot: link, permits, orders, report, loop."""

    def __init__(self, link: RobotLink, pilot: Pilot, *, cycle_ms: int, report: Report | None) -> None:
        self.pilot = pilot
        self.ended = False
        self.late_cycles = 0
        self._link = link
        self._permits: Permits | None = None
        self._report = report
        self._cycle_ns = cycle_ms * NS_PER_MS
        self._beat_every = max(1, round(link.beat_ms / cycle_ms))
        self._cycles = 0
        self._read_ns = 0
        self._hanging = False
        self._retry_at_ns = 0
        self._retry_ns = _RETRY_NS[0]
        self._state: Mapping[str, Any] | None = None
        self._agent_verdict: Mapping[str, Any] | None = None
        self._told: tuple[object, ...] = ()
        self._told_ns = 0

    def run(self, control: Control | None, leash: Leash | None = None) -> None:
        """Turns until `ended`, or until the leash is cut."""
        next_ns = time.monotonic_ns()
        while not (self.ended or (leash is not None and leash.is_cut())):
            if control is not None:
                control.poll()
            self.cycle()
            next_ns = self._wait(next_ns + self._cycle_ns)
        self._link.close()

    def cycle(self) -> None:
        """One turn: messages first, the permits last before the drives."""
        self._hold_link(time.monotonic_ns())
        for message in self._link.poll():
            self._take(message)
        self._read_ns = time.monotonic_ns()
        verdict = self._permits.read() if self._permits else NOT_PERMITTED
        self.pilot.cycle(time.monotonic_ns(), verdict)
        self._speak()
        self._tell(time.monotonic_ns())
        self._cycles += 1

    def obey(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        """One order of the control socket, and its answer."""
        name = str(order["order"])
        row = ORDERS.get(name)
        if row is None:
            return {"ok": False, "order": name, "reason": f"order must be one of {', '.join(ORDERS)}"}
        done = row.act(self, order)
        if done is False:
            return {"ok": False, "order": name, "reason": row.refused}
        return {"ok": True, "order": name, **(done if isinstance(done, Mapping) else {})}

    def account(self) -> dict[str, Any]:
        """The report's line, see the module's docstring."""
        return {
            "mono_ns": time.monotonic_ns(),
            "read_ns": self._read_ns,
            **self.pilot.account(),
            "connected": self._link.connected,
            "beats": self._link.beats,
            "late_cycles": self.late_cycles,
            "state": self._state,
            "verdict": self._agent_verdict,
            "lost": self._report.lost if self._report else 0,
        }

    def end(self) -> None:
        """Ends the loop after this cycle."""
        self.ended = True

    def hang(self, hanging: bool) -> None:
        """No more beats; the loop turns on."""
        self._hanging = hanging

    def disobey(self, disobedient: bool) -> None:
        """Runs whatever the permits say."""
        self.pilot.disobedient = disobedient

    def authorise(self, order: Mapping[str, Any]) -> bool:
        """Asks the agent; False where the link does not take it."""
        args = order.get("args")
        id_, task = str(order.get("id", "")), str(order.get("task", ""))
        return self._link.authorise(id_, task, args if isinstance(args, dict) else None)

    def event(self, order: Mapping[str, Any]) -> bool:
        """Reports to the agent; False where the link does not take it."""
        return self._link.event(str(order.get("kind", "")), order.get("detail", ""))

    def _hold_link(self, now_ns: int) -> None:
        if self._link.connected or now_ns < self._retry_at_ns:
            return
        self._retry_at_ns = now_ns + self._retry_ns
        self._retry_ns = _RETRY_NS[0] if self._link.connect() else min(2 * self._retry_ns, _RETRY_NS[1])

    def _take(self, message: Mapping[str, Any]) -> None:
        kind = message["type"]
        if kind == "welcome":
            self._welcome(message.get("permits"))
        elif kind == "state":
            self._state = message
        elif kind == "verdict":
            self._agent_verdict = message
        elif kind == "step":
            self.pilot.take_step(message, time.monotonic_ns())

    def _welcome(self, paths: object) -> None:
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            return
        if self._permits is not None:
            self._permits.close()
        self._permits = Permits(paths)

    def _speak(self) -> None:
        for result in self.pilot.results:
            self._link.step_result(*result)
        self.pilot.results.clear()
        if not self._hanging and self._cycles % self._beat_every == 0:
            self._link.beat(self.pilot.telemetry())

    def _tell(self, now_ns: int) -> None:
        if self._report is None:
            return
        line = self.account()
        told = tuple(line[key] for key in _TOLD_AT_ONCE)
        if told != self._told or now_ns - self._told_ns >= _REPORT_NS:
            self._told, self._told_ns = told, now_ns
            self._report.write(line)

    def _wait(self, until_ns: int) -> int:
        """Sleeps until `until_ns`; where that is past, cycles were missed and are not made up for."""
        now_ns = time.monotonic_ns()
        missed = max(0, now_ns - until_ns) // self._cycle_ns
        self.late_cycles += missed
        until_ns += missed * self._cycle_ns
        time.sleep(max(0, until_ns - now_ns) / 1e9)
        return until_ns


class Order(NamedTuple):
    """A row of `ORDERS`. `act`: False refuses, for the reason `refused`; a mapping goes into the answer."""

    does: str
    act: Callable[[Robot, Mapping[str, Any]], object]
    refused: str = ""


def _telemetry(robot: Robot, order: Mapping[str, Any]) -> bool:
    values = order.get("values")
    if not isinstance(values, dict):
        return False
    robot.pilot.overrides = values
    return True


def _work(robot: Robot, order: Mapping[str, Any]) -> bool:
    epoch = order.get("epoch", robot.pilot.verdict.epoch)
    return robot.pilot.order(str(order.get("task", "patrol")), epoch)


_UNSENT = "there is no link to the agent, or it takes nothing"
ORDERS: Mapping[str, Order] = {
    "hang": Order("no more beats, all else goes on", lambda robot, _: robot.hang(True)),
    "resume_beats": Order("beats again", lambda robot, _: robot.hang(False)),
    "disobey": Order("runs against its permits", lambda robot, _: robot.disobey(True)),
    "obey": Order("obeys them again", lambda robot, _: robot.disobey(False)),
    "telemetry": Order(
        "{values}: what beats say instead; {} ends it", _telemetry, "values must be an object"
    ),
    "work": Order("{task, epoch}: work, by default in the present epoch", _work, "not the present epoch"),
    "authorise": Order("{id, task, args}: asks the agent", Robot.authorise, _UNSENT),
    "event": Order("{kind, detail}: reports to the agent", Robot.event, _UNSENT),
    "account": Order("answers with a line of the report", lambda robot, _: robot.account()),
    "quit": Order("ends the process", lambda robot, _: robot.end()),
}
"""What the control socket takes."""


def _bounded(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{low} to {high}, not {value}")
        return value

    return number


def _speed(text: str) -> float:
    value = float(text)
    if not 0 < value <= 10:
        raise argparse.ArgumentTypeError(f"more than 0 and at most 10 m/s, not {value}")
    return value


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m hil.robot", description="A simulated robot.")
    parser.add_argument("--link", required=True, metavar="PATH", help="the agent's robot.sock")
    parser.add_argument("--name", required=True)
    parser.add_argument("--report", metavar="PATH|FD|-", help="where its account goes, as JSON lines")
    parser.add_argument("--control", type=Path, metavar="PATH", help="the socket to listen on for orders")
    parser.add_argument("--auto-work", action="store_true", help="patrol whenever permitted anew")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input does")
    parser.add_argument("--beat-ms", type=_bounded(1, 10_000), default=20)
    parser.add_argument("--cycle-ms", type=_bounded(1, 1000), default=20)
    parser.add_argument("--max-speed-mps", type=_speed, default=Limits().max_speed_mps)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Exit code: 0 ended by a signal, `quit` or `--until-eof`; 1 failed (stderr says why); 2 wrong usage."""
    try:
        return _run(_arguments(words))
    except OSError as error:
        print(f"robot: {error}", file=sys.stderr)
        return 1


def _run(given: argparse.Namespace) -> int:
    robot = Robot(
        RobotLink(given.link, given.name, given.beat_ms),
        Pilot(body=Body(Limits(max_speed_mps=given.max_speed_mps)), auto_work=given.auto_work),
        cycle_ms=given.cycle_ms,
        report=Report(given.report) if given.report is not None else None,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: robot.end())
    robot.run(
        Control(given.control, robot.obey) if given.control is not None else None,
        Leash(sys.stdin.fileno()) if given.until_eof else None,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
