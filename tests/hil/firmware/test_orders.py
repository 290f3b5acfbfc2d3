"""The rig's orders: the table of `hil.node_orders` and no other, whatever comes over the control socket."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.firmware import FirmwareProcess
from hil.node_orders import MAX_ANSWER, ORDERS, Number, check, connect
from tests.hil.firmware.test_json import spoilt

INPUTS = ("estop", "bumper")
DEADLINE_S = 20


@pytest.fixture(scope="module")
def link(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[socket.socket]:
    """One conversation with one node, which must end well; nothing said in it is an order that ends it."""
    node = FirmwareProcess(tmp_path_factory.mktemp("o"), ",".join(INPUTS), program=program)
    with node, connect(node.control.path, DEADLINE_S) as conversation:
        yield conversation
    assert node.process.ended == 0, node.process.last_words(30)


def ask(link: socket.socket, packet: bytes) -> dict[str, object]:
    link.send(packet)
    answer = json.loads(link.recv(MAX_ANSWER))
    assert isinstance(answer, dict)
    return answer


def python_takes(packet: bytes) -> bool:
    try:
        check(json.loads(packet), INPUTS)
    except (ValueError, RecursionError):
        return False
    return True


names = st.sampled_from([*ORDERS, "explode", "", "press\0", "presse"])
values = (
    st.sampled_from(["estop", "gate", "a", "b", "both", "c", "", 0, 1, 2**16, 2**63, -1, True, None, 1.5])
    | st.integers()
    | st.text(max_size=5)
)
keys = st.sampled_from(["input", "channel", "step", "value", "count", "seed", "more"])
messages = st.builds(
    lambda name, rest: {"order": name} | rest, names, st.dictionaries(keys, values, max_size=3)
).map(lambda message: json.dumps(message).encode())


# What is taken is carried out. `quit` ends the conversation; what moves contacts is answered when they are
# steady, which takes its time.
SLOW = {"quit", "release", "mend", "unweld", "cut", "weld", "press"}


def is_slow(packet: bytes) -> bool:
    return python_takes(packet) and json.loads(packet)["order"] in SLOW


@given(messages | spoilt() | st.binary(max_size=100))
@settings(max_examples=300, deadline=None)
def test_it_takes_what_the_table_takes_and_nothing_else(link: socket.socket, packet: bytes) -> None:
    if packet and not is_slow(packet):
        answer = ask(link, packet)
        assert answer["ok"] is python_takes(packet), answer


@pytest.mark.parametrize("name", sorted(set(ORDERS) - {"quit"}))
def test_each_row_of_the_table_is_carried_out(link: socket.socket, name: str) -> None:
    message: dict[str, object] = {"order": name}
    if ORDERS[name].on_input:
        message["input"] = "bumper"
    for key, kind in (ORDERS[name].arguments or {}).items():
        message[key] = kind.low if isinstance(kind, Number) else kind.words[-1]
    answer = ask(link, json.dumps(message).encode())
    assert (answer["ok"], answer["order"]) == (True, name)
    assert ask(link, b'{"order":"plug"}')["ok"], "whatever it did, it is undone for the next"


def test_the_rows_are_those_of_the_table(link: socket.socket) -> None:
    reason = str(ask(link, b'{"order":"explode"}')["reason"])
    assert reason == f"order must be one of {', '.join(ORDERS)}"


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"order": ["press"]}, "an order is JSON"),
        ({"order": 1}, "order must be one of"),
        ({"order": "press"}, "input must be one of estop, bumper"),
        ({"order": "press", "input": 0}, "input must be one of"),
        ({"order": "press", "input": "estop", "channel": "a"}, "press takes no channel"),
        ({"order": "cut", "input": "estop", "channel": "both"}, "channel must be one of a, b"),
        ({"order": "mend", "input": "estop", "channel": "c"}, "channel must be one of a, b, both"),
        ({"order": "garbage"}, "count must be a whole number from 1 to 4096"),
        ({"order": "garbage", "count": 4097}, "from 1 to 4096"),
        ({"order": "garbage", "count": 1.5}, "count must be"),
        ({"order": "garbage", "count": 1, "seed": -1}, "seed must be a whole number from 0 to"),
        ({"order": "faults", "value": True}, "value must be a whole number"),
        ({"order": "faults", "value": 256}, "from 0 to 255"),
        ({"order": "skew", "step": 0}, "from 1 to 65535"),
    ],
)
def test_a_bad_order_is_refused_and_told_why(link: socket.socket, message: object, why: str) -> None:
    answer = ask(link, json.dumps(message).encode())
    assert answer["ok"] is False
    assert why in str(answer["reason"])
