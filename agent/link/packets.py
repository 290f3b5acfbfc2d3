"""One packet: a UTF-8 JSON object with a string field `type`, bounded in length, depth and numbers."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from agent.errors import WardenError

MAX_MODULE_PACKET = 131_072
"""Bytes. Twice the largest MQTT packet (PROTOCOL 3), which `remote` hands to `reflex` whole."""
MAX_ROBOT_PACKET = 8_192
"""Bytes (PROTOCOL 2)."""
MAX_DEPTH = 32
"""Levels of nesting. No message needs more than six; unbounded depth ends in a RecursionError somewhere."""
MAX_DIGITS = 20
"""Characters of an integer: what 64 bits need. Longer ones overflow wherever a float is made of them."""

Message = dict[str, object]


class LinkError(WardenError):
    """A local socket cannot be used. `path`: the socket's path; `reason`: what is wrong, in words."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason


class PacketError(WardenError):
    """A packet breaks the rules above. `reason`: which one, never in the packet's own words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _refuse_constant(name: str) -> object:
    raise PacketError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    """`1e999` is valid JSON and becomes infinity, against which every limit compares false."""
    value = float(text)
    if not math.isfinite(value):
        raise PacketError("number out of range")
    return value


def _bounded_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise PacketError("number out of range")
    return int(text)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite, parse_int=_bounded_int)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def encode_packet(message: Mapping[str, object], max_packet: int = MAX_MODULE_PACKET) -> bytes:
    """The packet of a message; raises PacketError for what JSON cannot carry or what is too long.

    A lone surrogate (a file name that is not UTF-8) becomes `?`: the receiver would refuse it.
    """
    try:
        packet = _ENCODER.encode(dict(message)).encode("utf-8", "replace")
    except (TypeError, ValueError, RecursionError) as error:
        raise PacketError(f"message cannot be written as JSON: {type(error).__name__}") from error
    if len(packet) > max_packet:
        raise PacketError(f"longer than {max_packet} bytes")
    return packet


def decode_packet(packet: bytes | bytearray | memoryview, max_packet: int = MAX_MODULE_PACKET) -> Message:
    """The message in a packet; raises PacketError. Every string in it can be encoded as UTF-8 again."""
    if len(packet) > max_packet:
        raise PacketError(f"longer than {max_packet} bytes")
    try:
        text = str(packet, "utf-8")
    except UnicodeDecodeError as error:
        raise PacketError("not UTF-8") from error
    message = _parse(text)
    if not isinstance(message, dict):
        raise PacketError("not a JSON object")
    if not isinstance(message.get("type"), str):
        raise PacketError("no string field type")
    return message


def _parse(text: str) -> object:
    try:
        value: object = _DECODER.decode(text)
    except RecursionError as error:
        raise PacketError("nested too deeply") from error
    except ValueError as error:
        raise PacketError("not JSON") from error
    # Counting brackets is far cheaper than walking, and enough for nearly every packet.
    if text.count("{") + text.count("[") > MAX_DEPTH:
        _check_depth(value)
    if "\\ud" in text or "\\uD" in text:
        _check_surrogates(value)
    return value


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise PacketError("nested too deeply")


def _children(node: object) -> Iterable[object]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


def _check_surrogates(value: object) -> None:
    """A lone surrogate would make every later write of it, to a file or a broker, raise."""
    try:
        _ENCODER.encode(value).encode("utf-8")
    except UnicodeEncodeError as error:
        raise PacketError("lone surrogate in a string") from error
