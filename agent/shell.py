"""What every module of the table shares: its folder, its socket, its events, its meter, its end.

A module is a plain object with `start()`; `run_module` gives it a loop, settles the process for its class
and ends it in order on SIGTERM and SIGINT. An exception that nobody foresaw ends the process: its permit is
withdrawn by its end, and a dead module is a stop (DESIGN, principle 5).
"""

import asyncio
import ctypes
import gc
import os
import secrets
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from agent.core.plan import Plan
from agent.events import EventSink
from agent.link import MAX_MODULE_PACKET, Connection, Message, Server
from agent.metrics import Meter
from agent.notify import Notifier
from agent.processes import BY_NAME, allowed_uids, may_claim, may_send
from agent.realtime import RealtimeReport, settle
from agent.timerfd import TimerFd

TICK_NS = 10_000_000
"""A fifth of the shortest deadline on a line (50 ms, PROTOCOL 4)."""
RENEWALS_PER_TTL = 4
"""A permit is renewed at least so often within its ttl: three renewals may be late before the robot stops."""
TIDY_AFTER_S = 1.0
"""After a stop began: when everybody has been told."""
RECORDS_PER_S = 10
"""Bad inputs recorded per source and second; all of them are counted."""


class Shell:
    """One module's surroundings."""

    def __init__(self, plan: Plan, name: str, loop: asyncio.AbstractEventLoop, *, serve: bool = True) -> None:
        """`serve`: answer on the row's socket here; False for a module that has a server of its own."""
        self.plan = plan
        self.name = name
        self.loop = loop
        self.row = BY_NAME[name]
        self.folder = Path(plan.run_dir) / plan.robot.id
        self.state_folder = Path(plan.state_dir) / plan.robot.id
        self.boot = secrets.token_hex(16)
        self.notifier = Notifier()
        self.meter = Meter()
        self.realtime = RealtimeReport(fifo=False, memory_locked=False, collector_off=False, reasons=())
        self.sink = EventSink(
            loop,
            self.folder / "recorder.sock",
            source=name,
            boot=self.boot,
            allowed_uids=allowed_uids(("recorder",)),
        )
        self.emit: Callable[[str, Mapping[str, object]], None] = self.sink.emit
        self.status: Callable[[], dict[str, object]] = dict
        self.on_message: Callable[[Connection, Message], None] = _nobody
        self.on_end: Callable[[Connection], None] = _nobody_ended
        self._server = self._make_server() if serve else None
        self._bad: dict[str, _Rate] = {}

    def _make_server(self) -> Server | None:
        if self.row.socket is None:
            return None
        return Server(
            self.loop,
            self.folder / self.row.socket,
            allowed_uids=allowed_uids(BY_NAME),
            mode=0o660,
            max_packet=MAX_MODULE_PACKET,
            on_message=self._heard,
            on_end=self._ended,
            on_bad=lambda reason: self.bad_input("module_link", reason),
        )

    def start(self) -> None:
        """Listens and begins to send events; raises LinkError where the path cannot be had."""
        if self._server is not None:
            self._server.start()
        self.sink.start()

    def _heard(self, connection: Connection, message: Message) -> None:
        kind = message["type"]
        if kind == "hello" and not may_claim(connection.role, connection.peer_uid):
            self.bad_input("module_link", f"uid {connection.peer_uid} may not be {connection.role!r}")
            connection.close()
        elif not may_send(self.name, connection.role, str(kind)):
            self.bad_input("module_link", f"{connection.role or 'unknown'} may not send {kind!r:.40}")
        elif kind == "metrics":
            connection.send({"type": "metrics", "data": self.meter.snapshot()})
        elif kind == "status":
            connection.send({"type": "status", "module": self.about(), **self.status()})
        else:
            self.on_message(connection, message)

    def _ended(self, connection: Connection) -> None:
        self.on_end(connection)

    def about(self) -> dict[str, object]:
        """What `warden status` says of the module itself."""
        return {"name": self.name, "pid": os.getpid(), "realtime": self.realtime.as_dict(), "boot": self.boot}

    def bad_input(self, source: str, reason: str) -> None:
        """Counts every bad input; records at most RECORDS_PER_S of each source, with how many it left out."""
        self.meter.inc("bad_input_total", source)
        rate = self._bad.setdefault(source, _Rate())
        left_out = rate.admit(time.monotonic())
        if left_out is not None:
            body = {"source": source, "reason": reason[:200], "left_out": left_out}
            self.emit("bad_input", body)

    def tick_ns(self, longest_ns: int) -> int:
        """How often a channel takes its turn when nothing wakes it."""
        return min(longest_ns, self.plan.times.ttl_ns // RENEWALS_PER_TTL)

    def tidy_soon(self) -> None:
        """The collector is off in a channel; while the robot stands there is time for it."""
        if self.realtime.collector_off:
            self.loop.call_later(TIDY_AFTER_S, gc.collect)

    def settle(self) -> None:
        """Takes the row's scheduling class; says aloud where the system does not grant it."""
        self.realtime = settle(
            fifo_priority=self.row.fifo_priority, freeze_collector=self.row.freeze_collector
        )
        for kind in ("fifo", "memory_locked", "collector_off"):
            self.meter.set("realtime", float(bool(self.realtime.as_dict()[kind])), self.name, kind)
        for reason in self.realtime.reasons:
            sys.stderr.write(f"{self.name}: {reason}\n")
        self.emit("module_started", {**self.about(), "plan": self.plan.digest})

    def close(self) -> None:
        """Idempotent."""
        if self._server is not None:
            self._server.close()
        self.sink.close()
        self.notifier.close()


class _Rate:
    """At most RECORDS_PER_S in any one second; counts what it leaves out."""

    def __init__(self) -> None:
        self._second = -1
        self._count = self._left_out = 0

    def admit(self, now_s: float) -> int | None:
        if int(now_s) != self._second:
            self._second, self._count = int(now_s), 0
        if self._count >= RECORDS_PER_S:
            self._left_out += 1
            return None
        self._count += 1
        left_out, self._left_out = self._left_out, 0
        return left_out


def _nobody(connection: Connection, message: Message) -> None:
    """A message that no module wants: the table lets none through before `on_message` is set."""


def _nobody_ended(connection: Connection) -> None:
    """An end nobody waits for."""


class Ticker:
    """The module's own beat: a timerfd whose callback is one whole turn; pings the watchdog after it."""

    def __init__(self, shell: Shell, turn: Callable[[int], None], period_ns: int = TICK_NS) -> None:
        self._shell = shell
        self._turn = turn
        self._timer = TimerFd(period_ns)
        self._due_ns = time.monotonic_ns() + period_ns
        shell.loop.add_reader(self._timer.fileno(), self._fire)

    def _fire(self) -> None:
        beats = self._timer.read()
        if not beats:
            return
        now_ns = time.monotonic_ns()
        self._shell.meter.observe("loop_lag_seconds", max(0, now_ns - self._due_ns) / 1e9, self._shell.name)
        self._turn(now_ns)
        self._due_ns += beats * self._timer.period_ns
        self._shell.notifier.watchdog(now_ns)

    def close(self) -> None:
        """Idempotent."""
        if self._timer.fileno() >= 0:
            self._shell.loop.remove_reader(self._timer.fileno())
        self._timer.close()


class Module(Protocol):
    """One row of the table of processes, at work."""

    shell: Shell

    def start(self) -> None:
        """Opens what it needs and begins; raises WardenError for what stands in the way."""

    def close(self) -> None:
        """Withdraws and lets go; idempotent."""


def run_module(make: Callable[[Plan, asyncio.AbstractEventLoop], Module], plan: Plan, parent_pid: int) -> int:
    """Runs one module until SIGTERM, SIGINT or a fault; the exit code.

    `parent_pid`: of `warden run`, whose end is then the module's end too; 0 under systemd.
    """
    if parent_pid:
        _end_with_parent(parent_pid)
    loop = asyncio.new_event_loop()
    # Not `loop.stop`: what `start` and `close` run on the loop must come to its own end.
    ended: asyncio.Future[int] = loop.create_future()

    def end(code: int) -> None:
        if not ended.done():
            ended.set_result(code)

    loop.set_exception_handler(lambda _, context: end(_fault(context)))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, 0)
    module = make(plan, loop)
    try:
        module.start()
        module.shell.settle()
        module.shell.notifier.ready()
        code = loop.run_until_complete(ended)
        module.shell.notifier.stopping()
    finally:
        module.close()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    return code


def _fault(context: Mapping[str, object]) -> int:
    """A fault nobody thought of ends in a stop: the module ends, and says where, on one line per frame."""
    error = context.get("exception")
    sys.stderr.write(f"fault: {context.get('message')}\n")
    if isinstance(error, BaseException):
        sys.stderr.write("".join(traceback.format_exception(error)))
    return 70


_PR_SET_PDEATHSIG = 1


def _end_with_parent(parent_pid: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent_pid:
        sys.exit(0)
