"""A channel and a disk that hangs or refuses: no stop waits for it, and nothing starts before it has kept."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agent import latch
from agent.core.causes import MS, Clear
from agent.core.commands import Code
from agent.core.peer import UNHEARD
from agent.core.responses import Response
from agent.core.resume import ResumeRequest
from tests.channel_lives import blocked
from tests.channels import Life
from tests.core.factories import NOW_NS, TIMES, row, rows, small_plan
from tests.waiting import wait_until

PLAN = small_plan(rows=rows(row("too_close", Response.HOLD, Clear.AUTO)))


# ---- a disk that hangs, refuses, comes back


class Platter:
    """The disk under the real saver: it holds each save until it is let go, and may refuse."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.refuses = False
        self._save = latch.save

    def save(self, path: Path, data: bytes) -> None:
        assert self.free.wait(20)
        if self.refuses:
            raise OSError(5, os.strerror(5))
        self._save(path, data)


@pytest.fixture
def platter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Platter]:
    one = Platter()
    monkeypatch.setattr(latch, "save", one.save)
    yield one
    one.free.set()


@pytest.fixture
async def stuck(tmp_path: Path, platter: Platter, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Life]:
    """A channel with its real saver, whose first save, of `starting`, has not come to its end."""
    life = Life("reflex", PLAN, tmp_path)
    monkeypatch.setattr(life.channel._saver, "_loop", asyncio.get_running_loop())
    life.channel.turn(NOW_NS)
    life.channel.turn(NOW_NS)
    yield life
    platter.free.set()
    await asyncio.to_thread(life.channel.close)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert [t for t in threading.enumerate() if t not in before and t.name == "latch"] == []


async def until_saved(life: Life) -> None:
    await wait_until(lambda: life.channel.durable_epoch == life.channel.state.epoch)


def right(life: Life) -> ResumeRequest:
    return ResumeRequest(life.channel.state.epoch, life.channel.state.half + bytes(8))


async def test_a_disk_that_hangs_keeps_neither_a_stop_nor_the_power_of_a_hold(
    stuck: Life, platter: Platter
) -> None:
    platter.free.set()
    await until_saved(stuck)
    stuck.channel.grant(NOW_NS)
    await wait_until(lambda: not stuck.channel._epochs)
    platter.free.clear()
    stuck.channel.demand("guardian_hold")
    stuck.channel.turn(NOW_NS + MS)
    assert stuck.read().motion_until_ns == 0
    for ms in range(2, 20):
        stuck.channel.turn(NOW_NS + ms * MS)
        assert stuck.read().power_until_ns == NOW_NS + ms * MS + TIMES.ttl_ns + TIMES.ss1_ns
        assert stuck.relay.orders == {"relay": True}
    stuck.channel.demand("guardian_stop")
    stuck.channel.turn(NOW_NS + 20 * MS)
    assert stuck.read().power_until_ns == 0
    assert stuck.relay.orders == {"relay": False}
    assert stuck.channel.durable_epoch == stuck.channel.state.epoch - 2


async def test_a_stop_is_acknowledged_only_when_it_is_on_the_disk(stuck: Life, platter: Platter) -> None:
    path = stuck.permit.path.with_name("reflex.latch")
    acknowledged: list[latch.Latched | None] = []
    stuck.channel.demand("guardian_stop")
    stuck.channel.turn(NOW_NS)
    stuck.channel.when_durable(lambda: acknowledged.append(latch.load(path)))
    await asyncio.sleep(0)
    assert (acknowledged, path.exists()) == ([], False)
    platter.free.set()
    await wait_until(lambda: acknowledged)
    (found,) = acknowledged
    assert found is not None
    assert "guardian_stop" in {cause.key for cause in found.causes}


async def test_each_waits_for_its_own_state_and_what_is_saved_already_for_none(
    stuck: Life, platter: Platter
) -> None:
    done: list[str] = []
    stuck.channel.when_durable(lambda: done.append("first"))
    platter.free.set()
    await wait_until(lambda: done == ["first"])
    await wait_until(lambda: not stuck.channel._epochs)
    stuck.channel.when_durable(lambda: done.append("at once"))
    assert done == ["first", "at once"]


async def test_no_resume_before_the_stop_is_on_the_disk(stuck: Life, platter: Platter) -> None:
    assert blocked(stuck) == []
    assert stuck.channel.resume_refusal(right(stuck), UNHEARD) is Code.CAUSE_ACTIVE
    stuck.channel.grant(NOW_NS)  # were one granted all the same
    assert stuck.read().motion_until_ns == 0
    platter.free.set()
    await until_saved(stuck)
    assert stuck.channel.resume_refusal(right(stuck), UNHEARD) is None
    stuck.channel.grant(NOW_NS)
    assert stuck.read().motion_until_ns == NOW_NS + TIMES.ttl_ns


async def test_nothing_starts_by_itself_before_the_stop_is_on_the_disk(stuck: Life, platter: Platter) -> None:
    platter.free.set()
    await until_saved(stuck)
    stuck.channel.grant(NOW_NS)
    await wait_until(lambda: not stuck.channel._epochs)
    platter.free.clear()
    stuck.channel.demand("too_close")
    for _ in range(5):
        stuck.channel.turn(NOW_NS)
    assert [(c.key, c.clear, c.active) for c in stuck.channel.state.causes] == [
        ("too_close", Clear.AUTO, False)
    ]
    platter.free.set()
    await until_saved(stuck)
    stuck.channel.turn(NOW_NS)
    assert stuck.read().motion_until_ns == NOW_NS + TIMES.ttl_ns


async def test_a_disk_that_refuses_is_said_once_and_tried_until_it_takes(
    stuck: Life, platter: Platter, monkeypatch: pytest.MonkeyPatch
) -> None:
    platter.refuses = True
    platter.free.set()
    path = stuck.permit.path.with_name("reflex.latch")
    told: tuple[str, dict[str, object]] = (
        "latch_failed",
        {"channel": "reflex", "reason": f"{path}: Input/output error"},
    )
    await wait_until(lambda: stuck.channel.latch_problem)
    problem = stuck.channel.latch_problem
    tries: list[str] = []

    def failed(reason: str) -> None:
        tries.append(reason)
        stuck.channel._save_failed(reason)

    monkeypatch.setattr(stuck.channel._saver, "_on_failed", failed)
    await wait_until(lambda: len(tries) >= 2)
    assert problem == f"{path}: Input/output error"
    assert stuck.sink.events.count(told) == 1
    assert stuck.channel.resume_refusal(right(stuck), UNHEARD) is Code.CAUSE_ACTIVE
    platter.refuses = False
    await wait_until(lambda: not stuck.channel.latch_problem)
    assert stuck.channel.resume_refusal(right(stuck), UNHEARD) is None


def test_a_channel_that_never_took_a_turn_has_nothing_to_wait_for(tmp_path: Path) -> None:
    """A module that fails before its first turn must be able to end: no thread waits for it."""
    life = Life("reflex", PLAN, tmp_path)
    assert [t.name for t in threading.enumerate() if t.name == "latch"] == []
    life.channel.close()
    assert not (tmp_path / "reflex.latch").exists()
