"""What a person or a test may order the simulated node to do, and how an order travels.

One table, read by the node (which refuses what is not in it), by the command line and by
`hil.node_control`. An order is one JSON object in one packet on a SOCK_SEQPACKET socket:
`{"order": "cut", "input": "estop", "channel": "a"}`; the answer is one packet, `{"ok": true, …}` or
`{"ok": false, "reason": "…"}`.
"""

import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_ORDER = 4096
MAX_ANSWER = 65536
MAX_GARBAGE = 4096
"""Bytes in one go: more than the line holds would only be dropped."""

Arguments = dict[str, int | str]


@dataclass(frozen=True, slots=True)
class Number:
    """An argument that is a whole number from `low` to `high`; `default` None means it must be given."""

    low: int
    high: int
    default: int | None = None

    def check(self, name: str, value: object) -> int:
        """The value; raises ValueError naming the bound it broke."""
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            raise ValueError(f"{name} must be a whole number from {self.low} to {self.high}, not {value!r}")
        return value

    def read(self, text: str) -> int:
        """The same from a command line, where 0x1f is a number too."""
        return int(text, 0)


@dataclass(frozen=True, slots=True)
class Word:
    """An argument that is one of `words`; `default` None means it must be given."""

    words: tuple[str, ...]
    default: str | None = None

    def check(self, name: str, value: object) -> str:
        """The value; raises ValueError naming what would do."""
        if not isinstance(value, str) or value not in self.words:
            raise ValueError(f"{name} must be one of {', '.join(self.words)}, not {value!r}")
        return value

    def read(self, text: str) -> str:
        """The same from a command line."""
        return text


@dataclass(frozen=True, slots=True)
class Kind:
    """One order: its arguments beside the input's name, and what it does, for people."""

    does: str
    on_input: bool = False
    arguments: Mapping[str, Number | Word] | None = None


ONE_CHANNEL = {"channel": Word(("a", "b"), default="a")}
CHANNELS = {"channel": Word(("a", "b", "both"), default="both")}

ORDERS: Mapping[str, Kind] = {
    # buttons and wires
    "press": Kind("push the button in: both contacts open", on_input=True),
    "release": Kind("pull the button out: both contacts close", on_input=True),
    "cut": Kind("cut the wire of one channel: it reads open", on_input=True, arguments=ONE_CHANNEL),
    "mend": Kind("mend the wire", on_input=True, arguments=CHANNELS),
    "weld": Kind("weld the contact of one channel: it stays closed", on_input=True, arguments=ONE_CHANNEL),
    "unweld": Kind("free the welded contact", on_input=True, arguments=CHANNELS),
    # the node itself
    "silent": Kind("send nothing, go on listening"),
    "speak": Kind("send again"),
    "deaf": Kind("ignore what is heard"),
    "listen": Kind("hear again"),
    "repeat": Kind("send the same seq again and again"),
    "advance": Kind("count seq up again"),
    "skew": Kind("let the next seq jump ahead", arguments={"step": Number(1, 0xFFFF)}),
    "faults": Kind("set the faults byte of the frames", arguments={"value": Number(0, 0xFF)}),
    "jam": Kind("weld the relay's own contact: it stays as it is"),
    "free": Kind("free the relay's contact: it follows the next order, or the silence"),
    "reboot": Kind("power off and on: relay open, seq and node_ms from the start"),
    # the line
    "garbage": Kind(
        "send random bytes, the same for the same seed",
        arguments={"count": Number(1, MAX_GARBAGE), "seed": Number(0, 2**63 - 1, default=0)},
    ),
    "unplug": Kind("pull the cable: the line hangs up and its name is gone"),
    "plug": Kind("put the cable back: a new line under the old name"),
    # the simulator
    "state": Kind("say everything about the node"),
    "quit": Kind("end the simulator"),
}


def check(message: object, inputs: Sequence[str]) -> tuple[str, Arguments]:
    """An order's name and its complete arguments; raises ValueError saying what is wrong with it."""
    if not isinstance(message, dict):
        raise ValueError("an order is a JSON object")  # noqa: TRY004  (a bad value of a packet, not of a call)
    name = message.get("order")
    if not isinstance(name, str) or name not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, not {name!r}")
    wanted = _wanted(ORDERS[name], inputs)
    unknown = set(message) - {"order"} - set(wanted)
    if unknown:
        raise ValueError(f"{name} takes no {', '.join(sorted(unknown))}")
    return name, {key: kind.check(key, message.get(key, kind.default)) for key, kind in wanted.items()}


def from_words(words: Sequence[str]) -> dict[str, int | str]:
    """A command line's `press estop` as an order, unchecked but for its numbers; raises ValueError."""
    name, *given = words
    if name not in ORDERS:
        raise ValueError(f"no such order: {name}")
    wanted = _wanted(ORDERS[name], ())
    if len(given) > len(wanted):
        raise ValueError(f"{name} takes at most {len(wanted)} arguments: {', '.join(wanted) or 'none'}")
    pairs = zip(wanted.items(), given, strict=False)
    return {"order": name} | {key: kind.read(text) for (key, kind), text in pairs}


def usage(name: str) -> str:
    """`cut INPUT [CHANNEL]`: an order and its arguments, in brackets where they may be left out."""
    wanted = _wanted(ORDERS[name], ())
    shown = (key.upper() if kind.default is None else f"[{key.upper()}]" for key, kind in wanted.items())
    return " ".join((name, *shown))


def _wanted(kind: Kind, inputs: Sequence[str]) -> dict[str, Number | Word]:
    first: dict[str, Number | Word] = {"input": Word(tuple(inputs))} if kind.on_input else {}
    return first | dict(kind.arguments or {})


def connect(path: Path, timeout_s: float) -> socket.socket:
    """A connection to a node's control socket; raises OSError."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        link.settimeout(timeout_s)
        link.connect(str(path))
    except OSError:
        link.close()
        raise
    return link


def ask(link: socket.socket, order: Mapping[str, int | str]) -> dict[str, object]:
    """Sends one order, gives the answer; raises OSError when the node is gone or too late."""
    link.send(json.dumps(order).encode())
    packet = link.recv(MAX_ANSWER)
    if not packet:
        raise ConnectionResetError("the node hung up")
    answer: dict[str, object] = json.loads(packet)
    return answer
