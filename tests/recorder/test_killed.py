"""A real recorder process, killed with SIGKILL again and again while several modules send."""

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

from agent.events import EventSink
from agent.logformat.layout import STREAMS
from tests.link.peers import MY_UID
from tests.recorder.logs import kept
from tests.recorder.sealed.logs import check_ledger
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
SOURCES = ("reflex", "remote", "monitor")
KILLS = 9
QUEUE = 300
"""Events that a sender lets wait before it pauses: more than the window, less than its capacity."""


class Recorder:
    """Starts and kills the process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "log"
        self.folder.mkdir()
        self.path = folder / "s"
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.recorder.process", str(self.folder), str(self.path)]
        self._process = subprocess.Popen(command, cwd=ROOT)
        self.starts += 1

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Sender:
    """Emits numbered events as fast as its queue empties, and writes down what was acknowledged."""

    def __init__(self, path: Path, source: str) -> None:
        loop = asyncio.get_running_loop()
        self.source = source
        self.boot = f"{SOURCES.index(source):032x}"
        self.sink = EventSink(loop, path, source=source, boot=self.boot, allowed_uids=MY_UID)
        self.emitted = 0

    @property
    def acknowledged(self) -> int:
        return self.emitted - self.sink.pending

    async def run(self) -> None:
        while True:
            if self.sink.pending < QUEUE:
                self.emitted += 1
                stream = STREAMS[self.emitted % 7 % 3]
                self.sink.emit("e", {"n": self.emitted, "text": "文" * (self.emitted % 50)}, stream=stream)
            await asyncio.sleep(0)


@asynccontextmanager
async def running(sender: Sender) -> AsyncIterator[None]:
    task = asyncio.create_task(sender.run(), name=sender.source)
    sender.sink.start()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def acknowledged_more(senders: list[Sender], count: int) -> None:
    total = sum(sender.acknowledged for sender in senders) + count
    await wait_until(lambda: sum(sender.acknowledged for sender in senders) >= total)


def numbers(folder: Path) -> dict[str, list[object]]:
    """The events of each sender, by its boot, in the order in which they are kept."""
    found: dict[str, list[object]] = {}
    for item in kept(folder):
        found.setdefault(item.boot, []).append(item.body.get("n"))
    return found


@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_acknowledged_is_lost_and_nothing_is_kept_twice(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    recorder = Recorder(tmp_path)
    senders = [Sender(recorder.path, source) for source in SOURCES]
    try:
        async with AsyncExitStack() as stack:
            for sender in senders:
                await stack.enter_async_context(running(sender))
            for _ in range(KILLS):
                recorder.start()
                # Some kills meet it while it starts, most in the middle of writing.
                if rng.random() < 0.8:
                    await acknowledged_more(senders, rng.randrange(1, 400))
                acknowledged = [sender.acknowledged for sender in senders]
                recorder.kill()
                found = numbers(recorder.folder)
                for sender, count in zip(senders, acknowledged, strict=True):
                    assert found.get(sender.boot, [])[:count] == list(range(1, count + 1))
            recorder.start()
            await wait_until(lambda: all(sender.acknowledged > QUEUE for sender in senders))
        await wait_until(lambda: not any(sender.sink.pending for sender in senders))
    finally:
        recorder.kill()
        for sender in senders:
            sender.sink.close()
    found = numbers(recorder.folder)
    for sender in senders:
        assert found[sender.boot] == list(range(1, sender.emitted + 1))
        assert sum(sender.sink.lost.values()) == 0
    check_ledger(recorder.folder)


async def test_what_a_full_queue_dropped_while_nobody_recorded_is_explained(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    loop = asyncio.get_running_loop()
    with closing(
        EventSink(loop, recorder.path, source="reflex", boot="0" * 32, allowed_uids=MY_UID, capacity=100)
    ) as sink:
        sink.start()
        for number in range(250):
            sink.emit("e", {"n": number})
        recorder.start()
        try:
            await wait_until(lambda: not sink.pending)
        finally:
            recorder.kill()
    found = [item for item in kept(recorder.folder) if item.source == "reflex"]
    assert [item.seq for item in found] == [*range(1, 101), 251]
    assert found[-1].body == {"stream": "safety", "count": 150, "first_seq": 101, "last_seq": 250}
    (loss,) = [
        item.body for item in kept(recorder.folder) if item.source == "recorder" and item.kind == "loss"
    ]
    assert (loss["first_seq"], loss["last_seq"], loss["count"]) == (101, 250, 150)
