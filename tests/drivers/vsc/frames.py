"""The controller's frames (PROTOCOL 4) by hand, so that no test leans on the codec it tests."""

import struct

OPERATIONAL = 0x09


def check_bytes(body: bytes) -> bytes:
    """Fletcher's sums byte by byte, modulo 256, the plain one first."""
    plain = summed = 0
    for byte in body:
        plain = (plain + byte) % 256
        summed = (summed + plain) % 256
    return bytes([plain, summed])


def frame(kind: int, data: bytes, *, spoil: int = 0) -> bytes:
    """A whole frame; `spoil` flips bits of its check sum."""
    body = bytes([0x10, 0x01, kind, len(data)]) + data
    plain, summed = check_bytes(body)
    return body + bytes([plain ^ spoil & 0xFF, summed ^ spoil >> 8])


def heartbeat(status: int = 0, *, mode: int = OPERATIONAL, autonomy: int = 0, spoil: int = 0) -> bytes:
    """The controller's heartbeat as it goes on the line."""
    return frame(0x20, struct.pack("<BBI", mode, autonomy, status), spoil=spoil)


def every_frame(stream: bytes) -> list[bytes]:
    """Every stretch of `stream` that is a whole frame, found the slow way."""
    found = []
    for at in range(len(stream) - 5):
        if stream[at : at + 2] == b"\x10\x01" and stream[at + 3] <= 248:
            whole = stream[at : at + 6 + stream[at + 3]]
            if len(whole) == 6 + stream[at + 3] and check_bytes(whole[:-2]) == whole[-2:]:
                found.append(whole)
    return found
