"""The simulated node's loop: line, control socket and report around `SafetyNode`.

One thread, one select, and two absolute deadlines (the next frame, the relay's silence). All times
are CLOCK_MONOTONIC, nanoseconds.
"""

import json
import os
import random
import selectors
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TextIO

from hil.node_control_socket import ControlSocket
from hil.node_line import Line, Sent
from hil.node_model import CHANNELS, SafetyNode, Transition
from hil.node_orders import Arguments, check

PERIOD_NS = 10_000_000
COUNTERS = (*(f"frames_{sent.value}" for sent in Sent), "late_turns")

Answer = dict[str, object]
Handler = Callable[[Arguments, int], Answer | None]


class Simulator:
    """The node, its line, its control socket and its report, turned by one loop."""

    def __init__(
        self, names: Sequence[str], line: Line, control: ControlSocket | None, report: TextIO | None
    ) -> None:
        """`line` is plugged in by `run`. The caller closes `report`."""
        now_ns = time.monotonic_ns()
        self.node = SafetyNode(names, now_ns, self._on_relay)
        self.counters: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))
        self.silent = False
        self._line = line
        self._control = control
        self._report = report
        self._frame_at_ns = now_ns
        self._watched: int | None = None
        self._running = True
        # Waits to the microsecond; epoll would round up to whole milliseconds.
        self._selector = selectors.SelectSelector()
        self._orders = _handlers(self)

    # The loop ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until `stop`. Raises OSError when the line or the control socket cannot be made."""
        if self._control is not None:
            self._control.open(self._selector, self.obey)
        self._note("start", time.monotonic_ns(), pid=os.getpid(), inputs=list(self.node.contacts))
        try:
            self._line.plug()
            while self._running:
                self._turn()
        finally:
            self._close()

    def stop(self, *_: object) -> None:
        """Ends the loop within one period; also the signal handler."""
        self._running = False

    def _turn(self) -> None:
        wait_ns = self._due_ns() - time.monotonic_ns()
        for key, _ in self._selector.select(max(0, wait_ns) / 1e9):
            key.data()
        # What has arrived is heard before silence is judged: a late turn of this loop is not the agent's.
        now_ns = time.monotonic_ns()
        self.node.tick(now_ns)
        if now_ns >= self._frame_at_ns:
            self._send_frame(now_ns)
            self._plan_next_frame(now_ns)
        elif self.node.changed:
            self._send_frame(now_ns)
        self._watch_line()

    def _due_ns(self) -> int:
        silence_at_ns = self.node.silence_at_ns
        return self._frame_at_ns if silence_at_ns is None else min(self._frame_at_ns, silence_at_ns)

    def _plan_next_frame(self, now_ns: int) -> None:
        """On the 10 ms grid, whatever this turn took; whole periods that were missed are left out."""
        missed = (now_ns - self._frame_at_ns) // PERIOD_NS
        self.counters["late_turns"] += missed > 0
        self._frame_at_ns += (missed + 1) * PERIOD_NS

    def _watch_line(self) -> None:
        """Follows the port as it is opened, closed, unplugged and plugged in; seen within one period."""
        wanted = self._line.listening()
        if wanted == self._watched:
            return
        if self._watched is not None:
            self._selector.unregister(self._watched)
        if wanted is not None:
            self._selector.register(wanted, selectors.EVENT_READ, self._hear)
        self._watched = wanted

    def _hear(self) -> None:
        self.node.hear(self._line.receive(), time.monotonic_ns())

    def _send_frame(self, now_ns: int) -> int | None:
        """Sends one frame unless silent; the time right before the kernel took it, None if it took none."""
        if self.silent:
            return None
        return self._send(self.node.next_frame(now_ns))

    def _send(self, data: bytes) -> int | None:
        at_ns = time.monotonic_ns()
        sent = self._line.send(data)
        self.counters[f"frames_{sent.value}"] += 1
        return at_ns if sent is Sent.GONE else None

    def _close(self) -> None:
        self._note("end", time.monotonic_ns())
        self._unplug()
        if self._control is not None:
            self._control.close()
        self._selector.close()

    # Orders -----------------------------------------------------------------------------------------------

    def obey(self, message: object) -> Answer:
        """Carries out one order; its answer. A frame with the change goes out before this returns."""
        try:
            name, arguments = check(message, tuple(self.node.contacts))
            at_ns = time.monotonic_ns()
            answer = self._orders[name](arguments, at_ns) or {}
        except (ValueError, OSError) as error:
            return {"ok": False, "reason": str(error)}
        frame_ns = self._send_frame(at_ns) if self.node.changed else None
        if name != "state":
            self._note("order", at_ns, order=name, **arguments, frame_ns=frame_ns)
        return {"ok": True, "order": name, "at_ns": at_ns, "frame_ns": frame_ns} | answer

    def garbage(self, arguments: Arguments, _: int) -> Answer:
        """`count` seeded bytes at once, in between two frames."""
        noise = random.Random(arguments["seed"]).randbytes(int(arguments["count"]))
        return {"bytes": noise.hex(), "sent": self._line.send(noise).value}

    def mute(self, silent: bool) -> None:
        """Silent: no frames, not even on a change, and `seq` stands still."""
        self.silent = silent

    def set_plugged(self, plugged: bool) -> None:
        """Pulls the cable or puts it back. The node has a supply of its own and runs on."""
        if plugged:
            self._line.plug()
        else:
            self._unplug()

    def state(self) -> Answer:
        """Everything a test may ask about, as JSON-able values."""
        node = self.node
        return {
            "relay": node.relay,
            "transitions": [asdict(transition) for transition in node.transitions],
            "inputs": {name: _contact_state(node, name) for name in node.contacts},
            "counters": dict(self.counters) | dict(node.counters),
            "seq": node.last_seq,
            "echo": node.echo,
            "node_ms": node.node_ms(time.monotonic_ns()),
            "faults": node.faults,
            "silent": self.silent,
            "deaf": node.deaf,
            "repeating": node.repeating,
            "jammed": node.jammed,
            "plugged": self._line.plugged,
            "opened": self._line.listening() is not None,
        }

    def _unplug(self) -> None:
        if self._watched is not None:
            self._selector.unregister(self._watched)
            self._watched = None
        self._line.unplug()

    # Report -----------------------------------------------------------------------------------------------

    def _on_relay(self, transition: Transition) -> None:
        self._note("relay", transition.at_ns, closed=transition.closed, why=transition.why)

    def _note(self, what: str, at_ns: int, **fields: object) -> None:
        if self._report is not None:
            self._report.write(json.dumps({"at_ns": at_ns, "what": what} | fields) + "\n")
            self._report.flush()  # line by line, so that it is whole up to a kill -9


def _contact_state(node: SafetyNode, name: str) -> dict[str, object]:
    contact = node.contacts[name]
    return {
        "a": contact.closed("a"),
        "b": contact.closed("b"),
        "pressed": contact.pressed,
        "cut": sorted(contact.cut),
        "welded": sorted(contact.welded),
        "changed_ns": contact.changed_ns,
    }


def _handlers(simulator: Simulator) -> Mapping[str, Handler]:
    """One entry per row of ORDERS."""
    node = simulator.node

    def cut(add: bool) -> Handler:
        return lambda a, now: node.cut(_input(a), _with(node.contacts[_input(a)].cut, a, add), now)

    def weld(add: bool) -> Handler:
        return lambda a, now: node.weld(_input(a), _with(node.contacts[_input(a)].welded, a, add), now)

    return {
        "press": lambda a, now: node.press(_input(a), True, now),
        "release": lambda a, now: node.press(_input(a), False, now),
        "cut": cut(True),
        "mend": cut(False),
        "weld": weld(True),
        "unweld": weld(False),
        "silent": lambda _, __: simulator.mute(True),
        "speak": lambda _, __: simulator.mute(False),
        "deaf": lambda _, __: node.set_deaf(True),
        "listen": lambda _, __: node.set_deaf(False),
        "repeat": lambda _, __: node.set_repeating(True),
        "advance": lambda _, __: node.set_repeating(False),
        "skew": lambda a, _: node.skip(int(a["step"])),
        "faults": lambda a, _: node.set_faults(int(a["value"])),
        "jam": lambda _, __: node.set_jammed(True),
        "free": lambda _, __: node.set_jammed(False),
        "reboot": lambda _, now: node.reboot(now),
        "garbage": simulator.garbage,
        "unplug": lambda _, __: simulator.set_plugged(False),
        "plug": lambda _, __: simulator.set_plugged(True),
        "state": lambda _, __: simulator.state(),
        "quit": lambda _, __: simulator.stop(),
    }


def _input(arguments: Arguments) -> str:
    return str(arguments["input"])


def _with(channels: frozenset[str], arguments: Arguments, add: bool) -> frozenset[str]:
    chosen = frozenset(CHANNELS if arguments["channel"] == "both" else (str(arguments["channel"]),))
    return channels | chosen if add else channels - chosen
