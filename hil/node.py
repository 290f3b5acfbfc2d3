"""A simulated safety node on a pseudo-terminal, in a process of its own (PROTOCOL 4, "Safety node").

    python -m hil.node --link PORT [--control SOCKET] [--inputs N|NAME,NAME...] [--report FILE]
    python -m hil.node order SOCKET press estop

Nothing here imports `agent` or `drivers`: the node is the other party on the line, not a part of the
agent. The parts: `node_codec` (frames), `node_model` (the node's rules, pure), `node_line` (the
pseudo-terminal), `node_orders` and `node_control_socket` (what may be ordered, and how) and
`node_simulator` (the loop). `hil.node_control` is what tests and the demo start and order it with.
"""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from hil.node_control_socket import ControlSocket
from hil.node_line import Line
from hil.node_orders import ORDERS, ask, connect, from_words, usage
from hil.node_simulator import Simulator

MAX_INPUTS = 16
NAMES = ("estop", "bumper")
"""What the first inputs are called where only a number is given: the names in PROTOCOL 8's plan."""
ORDER_TIMEOUT_S = 5.0
FAILED, WRONG_USAGE = 1, 2


def main(words: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 failed (one line on stderr says why), 2 wrong usage."""
    words = sys.argv[1:] if words is None else words
    try:
        if words[:1] == ["order"]:
            return order(words[1:])
        return simulate(words)
    except OSError as error:
        print(f"node: {error}", file=sys.stderr)
        return FAILED


def simulate(words: Sequence[str]) -> int:
    """Runs the node until SIGTERM, SIGINT or the order `quit`. Raises OSError."""
    arguments = _parser().parse_args(words)
    with ExitStack() as stack:
        report = stack.enter_context(arguments.report.open("a")) if arguments.report else None
        control = ControlSocket(arguments.control) if arguments.control else None
        simulator = Simulator(arguments.inputs, Line(arguments.link), control, report)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, simulator.stop)
        simulator.run()
    return 0


def order(words: Sequence[str]) -> int:
    """Sends one order to a running node and prints its answer as one JSON object. Raises OSError."""
    arguments = _order_parser().parse_args(words)
    try:
        message = from_words([arguments.order, *arguments.argument])
    except ValueError as error:
        print(f"node: {error}", file=sys.stderr)
        return WRONG_USAGE
    with connect(arguments.socket, ORDER_TIMEOUT_S) as link:
        answer = ask(link, message)
    print(json.dumps(answer, ensure_ascii=False))
    return 0 if answer["ok"] else FAILED


def input_names(text: str) -> tuple[str, ...]:
    """`2` or `estop,bumper`; raises argparse's error unless it makes 1 to 16 different names."""
    names = _numbered(int(text)) if text.isdecimal() else tuple(text.split(","))
    if not 1 <= len(names) <= MAX_INPUTS or len(set(names)) < len(names) or "" in names:
        raise argparse.ArgumentTypeError(f"1 to {MAX_INPUTS} different inputs, not {text!r}")
    return names


def _numbered(count: int) -> tuple[str, ...]:
    rest = (f"input_{i}" for i in range(len(NAMES), min(count, MAX_INPUTS + 1)))
    return (*NAMES, *rest)[: min(count, MAX_INPUTS + 1)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hil.node",
        description="A simulated safety node on a pseudo-terminal.",
        epilog="Order it about with: python -m hil.node order SOCKET ORDER [ARGUMENT ...]",
    )
    parser.add_argument("--link", type=Path, required=True, help="symlink to make: the agent's serial port")
    parser.add_argument("--control", type=Path, help="Unix socket on which it takes orders")
    parser.add_argument("--inputs", type=input_names, default=NAMES, help="how many, or their names: a,b,c")
    parser.add_argument("--report", type=Path, help="JSON lines: every relay transition and every order")
    return parser


def _order_parser() -> argparse.ArgumentParser:
    uses = {usage(name): kind.does for name, kind in ORDERS.items()}
    width = max(map(len, uses))
    parser = argparse.ArgumentParser(
        prog="python -m hil.node order",
        description="Orders a running node to do something and prints its answer.",
        epilog="orders:\n" + "\n".join(f"  {use:{width}}  {does}" for use, does in uses.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("socket", type=Path, help="the node's control socket")
    parser.add_argument("order", choices=ORDERS, metavar="ORDER")
    parser.add_argument(
        "argument", nargs="*", help="the order's arguments: an input's name, a channel, a number"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
