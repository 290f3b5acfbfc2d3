"""Modbus frames by hand, so that no test leans on the code it tests."""

import struct
from collections.abc import Sequence


def crc16(data: bytes) -> bytes:
    """CRC-16 bit by bit, as it goes on the line (MODBUS over Serial Line 6.2.2)."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return struct.pack("<H", crc)


def rtu(unit: int, pdu: bytes) -> bytes:
    """A frame on a serial line."""
    frame = bytes([unit]) + pdu
    return frame + crc16(frame)


def tcp(transaction: int, unit: int, pdu: bytes, *, protocol: int = 0) -> bytes:
    """A frame on a TCP connection."""
    return struct.pack(">HHHB", transaction, protocol, len(pdu) + 1, unit) + pdu


def ask(function: int, address: int, count: int) -> bytes:
    """A read's PDU."""
    return struct.pack(">BHH", function, address, count)


def registers(function: int, words: Sequence[int]) -> bytes:
    """The PDU that answers a read of registers."""
    return struct.pack(f">BB{len(words)}H", function, 2 * len(words), *words)


def bits(function: int, values: Sequence[bool]) -> bytes:
    """The PDU that answers a read of at most eight bits."""
    return bytes([function, 1, sum(value << place for place, value in enumerate(values))])


def refusal(function: int, code: int) -> bytes:
    """The PDU of an exception."""
    return bytes([function | 0x80, code])
