"""Waiting in tests: for a condition, never for a time.

The deadline only ends a test that would hang; it is generous, because a busy machine is no failure.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

DEADLINE_S = 20.0
PAUSE_S = 0.005


async def wait_until(predicate: Callable[[], Value], deadline_s: float = DEADLINE_S) -> Value:
    """The first true value of `predicate`, while the event loop runs on; AssertionError at the deadline."""
    end = time.monotonic() + deadline_s
    while not (value := predicate()):
        _hold_to(end, predicate, deadline_s)
        await asyncio.sleep(PAUSE_S)
    return value


def block_until(predicate: Callable[[], Value], deadline_s: float = DEADLINE_S) -> Value:
    """The same where no event loop runs: for other processes, and files that they write."""
    end = time.monotonic() + deadline_s
    while not (value := predicate()):
        _hold_to(end, predicate, deadline_s)
        time.sleep(PAUSE_S)
    return value


def _hold_to(end: float, predicate: Callable[[], object], deadline_s: float) -> None:
    if time.monotonic() >= end:
        name = getattr(predicate, "__qualname__", repr(predicate))
        message = f"{name} was not true within {deadline_s} s"
        raise AssertionError(message)
