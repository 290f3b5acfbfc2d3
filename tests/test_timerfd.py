"""A timer on the kernel's own clock; no test here says how fast it is."""

import asyncio
import fcntl
import os
import select
import time

import pytest

from agent import timerfd
from agent.errors import WardenError
from agent.timerfd import TimerError, TimerFd
from tests.descriptors import open_descriptors

HOUR_NS = 3_600_000_000_000


def test_nothing_is_due_before_the_first_beat() -> None:
    timer = TimerFd(1_000_000, first_ns=time.monotonic_ns() + HOUR_NS)
    assert timer.read() == 0
    timer.close()


def test_missed_beats_are_counted_on_the_grid_and_not_made_up_for() -> None:
    period_ns = time.monotonic_ns() * 2 // 21  # now lies in the middle between the beats 11 and 12 since 1 ns
    timer = TimerFd(period_ns, first_ns=1)
    assert timer.read() == 11
    assert timer.read() == 0
    timer.close()


def test_the_first_beat_is_one_period_away_by_default() -> None:
    timer = TimerFd(HOUR_NS)
    assert timer.read() == 0
    timer.close()
    assert timer.period_ns == HOUR_NS


def test_the_descriptor_neither_blocks_nor_is_inherited() -> None:
    timer = TimerFd(HOUR_NS)
    assert fcntl.fcntl(timer.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK
    assert fcntl.fcntl(timer.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    timer.close()


async def test_a_loop_is_woken_by_every_beat() -> None:
    loop = asyncio.get_running_loop()
    first_ns = time.monotonic_ns() + 1_000_000
    timer = TimerFd(1_000_000, first_ns=first_ns)
    done: asyncio.Future[int] = loop.create_future()
    beats = 0

    def on_beat() -> None:
        nonlocal beats
        beats += timer.read()
        if beats >= 20 and not done.done():
            done.set_result(time.monotonic_ns())

    loop.add_reader(timer.fileno(), on_beat)
    async with asyncio.timeout(10):
        ended_ns = await done
    loop.remove_reader(timer.fileno())
    timer.close()
    assert beats <= 1 + (ended_ns - first_ns) // 1_000_000  # never early


def test_a_timer_whose_first_beat_is_past_is_readable_at_once() -> None:
    timer = TimerFd(HOUR_NS, first_ns=1)
    assert select.select([timer.fileno()], [], [], 0)[0] == [timer.fileno()]
    timer.close()


def test_closing_twice_closes_no_other_descriptor() -> None:
    timer = TimerFd(HOUR_NS)
    fd = timer.fileno()
    timer.close()
    assert timer.fileno() == -1
    other = os.open("/dev/null", os.O_RDONLY)
    assert other == fd
    timer.close()
    os.fstat(other)
    os.close(other)


@pytest.mark.parametrize(("period_ns", "first_ns"), [(0, 1), (-1, 1), (1, 0), (1, -1)])
def test_numbers_that_would_disarm_a_timer_are_refused(period_ns: int, first_ns: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        TimerFd(period_ns, first_ns=first_ns)


def test_a_refusal_of_the_kernel_carries_its_number_and_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = open_descriptors()
    monkeypatch.setattr(timerfd, "_TFD_TIMER_ABSTIME", 0x40000000)
    with pytest.raises(TimerError) as caught:
        TimerFd(HOUR_NS)
    assert (caught.value.call, caught.value.errno) == ("timerfd_settime", 22)
    assert isinstance(caught.value, WardenError)
    assert open_descriptors() == before
