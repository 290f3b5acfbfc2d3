"""Permit records for tests. PROTOCOL 1's layout is spelled out here once more, on purpose."""

import struct
from typing import Any, TypedDict, Unpack, cast

from hypothesis import strategies as st

from agent.permit import Permit

SEQUENCE_AT = range(56, 64)
"""The one field that nothing guards: it permits nothing."""


class Grant(TypedDict):
    motion_until_ns: int
    power_until_ns: int
    epoch: int
    speed_permille: int
    response: int


RUN: Grant = {
    "motion_until_ns": 1000,
    "power_until_ns": 2000,
    "epoch": 7,
    "speed_permille": 1000,
    "response": 0,
}
STOP: Grant = {"motion_until_ns": 0, "power_until_ns": 0, "epoch": 8, "speed_permille": 0, "response": 5}

u64 = st.integers(0, 2**64 - 1)
grants = st.builds(
    lambda motion, power, epoch, speed, response: Grant(
        motion_until_ns=motion,
        power_until_ns=power,
        epoch=epoch,
        speed_permille=speed,
        response=response,
    ),
    st.just(0) | u64,
    st.just(0) | u64,
    st.integers(0, 2**32 - 1),
    st.integers(0, 1000),
    st.integers(0, 7),
)


def rising(sequence: list[Grant]) -> list[Grant]:
    """The same grants with epochs that never fall."""
    epochs = sorted(grant["epoch"] for grant in sequence)
    return [{**grant, "epoch": epoch} for grant, epoch in zip(sequence, epochs, strict=True)]


def but(grant: Grant, **fields: object) -> Grant:
    """The same grant with other values, also ones that no writer may write."""
    changed: Any = {**grant, **fields}
    return cast("Grant", changed)


def record(sequence: int, **grant: Unpack[Grant]) -> bytes:
    """The 64 bytes as PROTOCOL 1's table has them."""
    motion, power, epoch = grant["motion_until_ns"], grant["power_until_ns"], grant["epoch"]
    speed, response = grant["speed_permille"], grant["response"]
    return (
        b"WPERMIT1"
        + struct.pack("<QQQQ", motion, 2**64 - 1 - motion, power, 2**64 - 1 - power)
        + struct.pack("<IIHH", epoch, 2**32 - 1 - epoch, speed, 65535 - speed)
        + struct.pack("<BBHQ", response, 255 - response, 0, sequence)
    )


def as_grant(permit: Permit) -> Grant:
    return {
        "motion_until_ns": permit.motion_until_ns,
        "power_until_ns": permit.power_until_ns,
        "epoch": permit.epoch,
        "speed_permille": permit.speed_permille,
        "response": permit.response,
    }
