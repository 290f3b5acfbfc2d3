"""What bytes from outside meet first, one row each: the decoder, and the only errors it may raise.

`make fuzz` drives every row with coverage guidance; `tests/fuzz/test_targets.py` drives the same rows with a
few hundred inputs at every `make test`, so that a row that has rotted is found at once.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.config import ConfigError, load_plan
from agent.core.commands import Refusal
from agent.core.trust import TrustError, parse_trust
from agent.latch import LatchError
from agent.latch import load as load_latch
from agent.link import MAX_ROBOT_PACKET, PacketError, decode_packet
from agent.peer_link import read_state
from agent.permit import SIZE, parse
from agent.tokens import COMMAND, TokenError, verify
from drivers.modbus.codec import CodecError as ModbusError
from drivers.modbus.codec import Frames, Read, StreamError, rtu_answer, tcp_answer
from drivers.serial_node.codec import CodecError, NodeFrame, Splitter
from drivers.sim import panel
from drivers.vsc.codec import Parser
from tests.core.orders import claims, read
from tests.fuzz import audit, sealed

Decode = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Target:
    """`decode`: takes any bytes at all. `errors`: what it may raise, and nothing else."""

    decode: Decode
    errors: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...] = (b"",)


READ = Read(unit=3, function=3, address=12, count=2)
_FILE = Path(tempfile.mkdtemp(prefix="fuzz")) / "given"


def _file(load: Callable[[Path], object]) -> Decode:
    def decode(data: bytes) -> object:
        _FILE.write_bytes(data)
        return load(_FILE)

    return decode


def _stream(data: bytes) -> object:
    """A line of any bytes: bounded memory, and only whole frames with a right CRC come out of it."""
    splitter = Splitter()
    frames = 0
    for stretch in splitter.feed(data):
        try:
            NodeFrame.from_bytes(stretch)
            frames += 1
        except CodecError:
            continue
    return frames


def _modbus_tcp(data: bytes) -> object:
    """A stream of any bytes: what `Frames` cuts out of it, `tcp_answer` judges."""
    answers = 0
    for frame in Frames().feed(data):
        try:
            tcp_answer(READ, 7, frame)
            answers += 1
        except ModbusError:
            continue
    return answers


def _object(data: bytes) -> Mapping[str, object]:
    told = json.loads(data)
    if not isinstance(told, dict):
        raise ValueError("no object")  # noqa: TRY004 - as json's own errors
    return told


def _command(data: bytes) -> object:
    return read(dict(_object(data)))


TARGETS: Mapping[str, Target] = {
    "node_frame": Target(NodeFrame.from_bytes, (CodecError,)),
    "node_line": Target(_stream, ()),
    "robot_packet": Target(lambda data: decode_packet(memoryview(data), MAX_ROBOT_PACKET), (PacketError,)),
    "module_state": Target(lambda data: read_state(_object(data), 0), (ValueError, RecursionError)),
    "token": Target(lambda data: verify(data, typ=COMMAND, key_of=lambda _: bytes(32)), (TokenError,)),
    "command": Target(
        _command,
        (Refusal, ValueError, RecursionError),
        tuple(json.dumps(claims(cmd)).encode() for cmd in ("stop", "resume", "suspend")),
    ),
    "trust": Target(lambda data: parse_trust(_object(data)), (TrustError, ValueError, RecursionError)),
    "permit": Target(lambda data: parse(data[:SIZE]), ()),
    "latch": Target(_file(load_latch), (LatchError,)),
    "plan": Target(
        _file(lambda path: load_plan(path, offline=True)),
        (ConfigError,),
        ((Path(__file__).parents[2] / "config" / "plans" / "example.toml").read_bytes(),),
    ),
    "vsc_stream": Target(lambda data: Parser().feed(data, 0, 0), ()),
    "modbus_rtu": Target(lambda data: rtu_answer(READ, data), (ModbusError, StreamError)),
    "modbus_tcp": Target(_modbus_tcp, (StreamError,)),
    "panel": Target(_file(panel.read), (ValueError,)),
    **{
        name: Target(*row, (audit.SEEDS[name], *audit.MORE.get(name, ())))
        for name, row in audit.TARGETS.items()
    },
    **{name: Target(*row, sealed.SEEDS[name]) for name, row in sealed.TARGETS.items()},
}
