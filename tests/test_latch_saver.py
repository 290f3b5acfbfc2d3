"""The saver: a thread of its own that writes the newest, so that nobody waits for a disk."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent import latch
from agent.latch import Saver, encode, load
from tests.core.factories import NOW_NS, cause, stopped
from tests.waiting import wait_until


def encoded(epoch: int = 7) -> bytes:
    state = stopped(cause("guardian_stop"), epoch=epoch)
    return encode(state, now_ns=NOW_NS, wall_ns=10**18, standing={}, trust_version=0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reflex.latch"


class Disk:
    """A disk that holds each save until the test lets it go on, and may fail it."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self.failures = 0
        self.gate = threading.Event()
        self.gate.set()

    def save(self, path: Path, data: bytes) -> None:
        self.begun.append(data)
        assert self.gate.wait(20)
        if self.failures:
            self.failures -= 1
            raise OSError(28, os.strerror(28))


class Watched:
    """A saver whose answers are listed."""

    def __init__(self, path: Path) -> None:
        self.saved: list[int] = []
        self.failed: list[str] = []
        self.threads: set[int] = set()
        self.saver = Saver(
            asyncio.get_running_loop(), path, on_saved=self._saved, on_failed=self.failed.append
        )

    def _saved(self, ticket: int) -> None:
        self.threads.add(threading.get_ident())
        self.saved.append(ticket)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    held = Disk()
    monkeypatch.setattr(latch, "save", held.save)
    return held


@contextmanager
def watched(path: Path, disk: Disk | None = None) -> Iterator[Watched]:
    watch = Watched(path)
    try:
        yield watch
    finally:
        if disk is not None:
            disk.gate.set()
        watch.saver.close()


def until(seen: list[int], ticket: int) -> Callable[[], bool]:
    return lambda: ticket in seen


async def test_what_is_handed_over_is_on_the_disk_when_it_is_told(path: Path) -> None:
    with watched(path) as watch:
        assert watch.saver.save(encoded()) == 1
        await wait_until(until(watch.saved, 1))
        assert load(path) is not None
        assert watch.saver.save(encoded()) == 2
        await wait_until(until(watch.saved, 2))
        assert watch.threads == {threading.get_ident()}
        assert watch.failed == []


async def test_while_the_disk_hangs_nobody_waits_and_only_the_newest_is_written_after(
    path: Path, disk: Disk
) -> None:
    with watched(path, disk) as watch:
        disk.gate.clear()
        watch.saver.save(b"first")
        await wait_until(lambda: disk.begun == [b"first"])
        tickets = [watch.saver.save(b"%d" % number) for number in range(100)]
        assert tickets == list(range(2, 102))
        assert watch.saved == []
        disk.gate.set()
        await wait_until(until(watch.saved, 101))
        assert disk.begun == [b"first", b"99"]
        assert watch.saved == [1, 101]


async def test_a_disk_that_refuses_is_told_of_and_tried_again(path: Path, disk: Disk) -> None:
    disk.failures = 2
    with watched(path, disk) as watch:
        watch.saver.save(b"data")
        await wait_until(until(watch.saved, 1))
        assert disk.begun == [b"data"] * 3
        assert watch.failed == [f"{path}: No space left on device"] * 2


async def test_after_a_failure_the_newest_is_tried_and_not_the_failed(path: Path, disk: Disk) -> None:
    disk.failures = 1
    with watched(path, disk) as watch:
        disk.gate.clear()
        watch.saver.save(b"old")
        await wait_until(lambda: disk.begun == [b"old"])
        watch.saver.save(b"new")
        disk.gate.set()
        await wait_until(until(watch.saved, 2))
        assert disk.begun == [b"old", b"new"]
        assert watch.saved == [2]


async def test_a_real_folder_that_comes_back_is_written(tmp_path: Path) -> None:
    """Not even root can write below a file."""
    folder = tmp_path / "state"
    folder.write_text("in the way")
    path = folder / "reflex.latch"
    with watched(path) as watch:
        watch.saver.save(encoded())
        await wait_until(lambda: watch.failed)
        folder.unlink()
        folder.mkdir()
        await wait_until(until(watch.saved, 1))
        assert load(path) is not None
        assert set(watch.failed) == {f"{path}: Not a directory"}


async def test_closing_waits_for_the_last_save(path: Path) -> None:
    watch = Watched(path)
    for epoch in range(20):
        watch.saver.save(encoded(epoch))
    watch.saver.close()
    found = load(path)
    assert found is not None
    assert found.epoch == 19


async def test_closing_waits_for_what_is_under_way(path: Path, disk: Disk) -> None:
    watch = Watched(path)
    disk.gate.clear()
    watch.saver.save(b"slow")
    await wait_until(lambda: disk.begun)
    closing = asyncio.get_running_loop().run_in_executor(None, watch.saver.close)
    await wait_until(lambda: watch.saver._closing)
    assert not closing.done()
    disk.gate.set()
    await closing
    await wait_until(until(watch.saved, 1))


async def test_a_disk_that_never_takes_it_does_not_keep_the_module_from_ending(
    path: Path, disk: Disk
) -> None:
    disk.failures = 1_000_000
    watch = Watched(path)
    watch.saver.save(b"data")
    await wait_until(lambda: watch.failed)
    watch.saver.close()
    assert not watch.saver._thread.is_alive()
    assert watch.saved == []


async def test_closing_twice_is_closing(path: Path) -> None:
    with watched(path) as watch:
        watch.saver.close()
        watch.saver.close()


def test_a_loop_that_has_ended_wants_no_answer_any_more(path: Path) -> None:
    loop = asyncio.new_event_loop()
    saver = Saver(loop, path, on_saved=lambda _: None, on_failed=lambda _: None)
    loop.close()
    saver.save(encoded())
    saver.close()
    assert load(path) is not None


async def test_its_thread_has_a_small_stack_and_nobody_else_s_changes(path: Path) -> None:
    before = threading.stack_size()
    with watched(path) as watch:
        assert threading.stack_size() == before
        assert watch.saver._thread.name == "latch"
