"""Drop a plan's outputs after a crash: open each one, see or write it de-energised, let go (`ExecStopPost=`).

    python -m drivers.drop --plan-json FILE|- [--channel reflex|remote]

A module that ends in order drops its outputs itself, and the permits end with it in any case. What is left is
an output whose device keeps its level when the process that set it is killed: a GPIO line, for one. This
program knows nothing but the registry, so it serves every driver that has outputs. It never takes longer than
its budget, and says of each output how far it got.
"""

import argparse
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from agent.core.plan import DeviceSpec
from agent.errors import WardenError
from drivers.base import Device
from drivers.registry import build_devices

BUDGET_S: Final = 1.5
"""For all outputs together."""
LIMIT_S: Final = 2.0
"""Then the program ends itself, whatever it waits for: systemd starts the module again only afterwards."""
TICK_MS: Final = 10
MAX_PLAN_BYTES: Final = 8 << 20
"""A plan file is a megabyte at most; compiled, its defaults are written out."""
DONE, FAILED = 0, 1

MALFORMED: Final = (WardenError, KeyError, TypeError, ValueError, ImportError)
"""What building a device raises of settings that nobody has checked, or without the driver's library."""


class Outcome(Enum):
    """How far an output was dropped; the value is for people."""

    SEEN = "read back de-energised / 回读为断电"
    WRITTEN = "written de-energised, nothing read back / 已写断电,无回读"
    ENERGISED = "still reads energised / 仍为通电"
    AWAY = "not reached / 无法访问"
    REFUSED = "cannot be built / 无法建立"

    @property
    def is_dropped(self) -> bool:
        """True where the drive is known to be off."""
        return self in {Outcome.SEEN, Outcome.WRITTEN}


@dataclass(frozen=True, slots=True)
class Dropped:
    """One output. `detail`: why it could not be built, else empty."""

    outcome: Outcome
    detail: str = ""


class _Hold:
    """One output and its device, and the module's side of that device (`drivers.base.Host`)."""

    def __init__(self, name: str, spec: DeviceSpec) -> None:
        """Raises one of MALFORMED."""
        self.name = name
        self._readers: dict[int, Callable[[], None]] = {}
        devices, _, _ = build_devices({}, {name: spec}, self)
        self.device: Device = devices[0]

    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        """As `drivers.base.Host`."""
        self._readers[fd] = on_readable

    def unwatch(self, fd: int) -> None:
        """As `drivers.base.Host`."""
        del self._readers[fd]

    def now_ns(self) -> int:
        """As `drivers.base.Host`."""
        return time.monotonic_ns()

    def changed(self) -> None:
        """Looked at once per turn."""

    def bad_input(self, source: str, reason: str) -> None:
        """Nobody is here to be told."""

    @property
    def readers(self) -> Mapping[int, Callable[[], None]]:
        """Descriptors of the device; empty while it is away."""
        return self._readers

    def turn(self) -> None:
        """Order it off, and let its time pass."""
        now_ns = self.now_ns()
        self.device.order(self.name, False, now_ns)
        self.device.tick(now_ns)

    def outcome(self) -> Outcome:
        """So far."""
        back = self.device.readback(self.name, self.now_ns())
        if back is not None:
            return Outcome.ENERGISED if back else Outcome.SEEN
        # An open device has been written to by now, unless it counted a write that failed.
        failed = sum(count for name, count in self.device.counters.items() if name.startswith("writes_"))
        return Outcome.WRITTEN if self._readers and not failed else Outcome.AWAY


def drop(outputs: Mapping[str, DeviceSpec], *, budget_s: float = BUDGET_S) -> dict[str, Dropped]:
    """Drop each output; how far that went, by name. Raises nothing.

    Each output gets a device of its own, so that one which cannot be had takes no other along. Ends as soon
    as all are read back de-energised, and after `budget_s` in any case but that of a device which blocks.
    """
    done: dict[str, Dropped] = {}
    holds: list[_Hold] = []
    for name, spec in outputs.items():
        try:
            holds.append(_Hold(name, spec))
        except MALFORMED as error:
            done[name] = Dropped(Outcome.REFUSED, f"{type(error).__name__}: {error}"[:200])
    try:
        for hold in holds:
            hold.device.open()
        _turn(holds, time.monotonic() + budget_s)
        done.update((hold.name, Dropped(hold.outcome())) for hold in holds)
    finally:
        for hold in holds:
            hold.device.close()
    return {name: done[name] for name in outputs}


def _turn(holds: Sequence[_Hold], end_s: float) -> None:
    """Turn until all are seen de-energised, at least once, and no longer than until `end_s`."""
    while True:
        for hold in holds:
            hold.turn()
        if all(hold.outcome() is Outcome.SEEN for hold in holds) or time.monotonic() >= end_s:
            return
        _listen(holds)


def _listen(holds: Sequence[_Hold]) -> None:
    """One tick's time; whoever speaks in it is heard."""
    poll = select.poll()
    for hold in holds:
        for fd in hold.readers:
            poll.register(fd, select.POLLIN)
    ready = {fd for fd, _ in poll.poll(TICK_MS)}
    for hold in holds:
        for fd in ready & hold.readers.keys():
            on_readable = hold.readers.get(fd)
            if on_readable is not None:  # the one before it may have ended the watch
                on_readable()


# ------------------------------------------------------------------------------------------- the program


def main(words: Sequence[str] | None = None) -> int:
    """Exit code: 0 every output is off, 1 one is not or is not known to be. One line per output."""
    arguments = _parser().parse_args(words)
    signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        outputs = _outputs(_read(arguments.plan_json), arguments.channel)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        sys.stderr.write(f"drop: {arguments.plan_json}: no compiled plan: {error!r:.200}\n")
        return FAILED
    dropped = drop(outputs, budget_s=BUDGET_S)
    for name, one in dropped.items():
        sys.stdout.write(f"{name}: {one.outcome.value}{one.detail and ': '}{one.detail}\n")
    return DONE if all(one.outcome.is_dropped for one in dropped.values()) else FAILED


def _give_up(_number: int, _frame: object) -> None:
    """The end, from wherever the program hangs; the kernel takes the descriptors back."""
    os.write(2, b"drop: no time left\n")
    os._exit(FAILED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m drivers.drop", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--plan-json", required=True, metavar="FILE", help="the compiled plan; - for stdin")
    parser.add_argument("--channel", choices=("reflex", "remote"), help="only this channel's outputs")
    return parser


def _read(path: str) -> bytes:
    if path == "-":
        data = sys.stdin.buffer.read(MAX_PLAN_BYTES + 1)
    else:
        with Path(path).open("rb") as file:
            data = file.read(MAX_PLAN_BYTES + 1)
    if len(data) > MAX_PLAN_BYTES:
        raise ValueError(f"larger than {MAX_PLAN_BYTES} bytes")
    return data


def _outputs(data: bytes, channel: str | None) -> dict[str, DeviceSpec]:
    """Names and devices of the outputs in a plan as `agent.core.plan.to_plain` writes it."""
    return {
        name: DeviceSpec(output["device"]["driver"], dict(output["device"]["settings"]))
        for name, output in json.loads(data)["outputs"].items()
        if channel in (None, output["channel"])
    }


if __name__ == "__main__":
    sys.exit(main())
