"""One link by itself: what the whole monitor's tests do not reach."""

import asyncio
import os
import socket
from pathlib import Path

from agent.monitor.links import ModuleLink
from tests.monitor.modules import FakeModule
from tests.waiting import wait_until


def make(path: Path) -> tuple[ModuleLink, list[int]]:
    refused: list[int] = []
    link = ModuleLink(
        asyncio.get_running_loop(),
        path,
        module="reflex",
        hello={"type": "hello", "role": "monitor"},
        allowed_uids=frozenset({os.geteuid()}),
        on_bad=refused.append,
    )
    return link, refused


async def test_a_module_that_takes_no_more_questions_is_down(run_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(run_dir / "reflex.sock"))
        listener.listen()  # connected by the kernel, and never read
        link, _ = make(run_dir / "reflex.sock")
        link.start()
        await wait_until(lambda: link.up)
        asked = 0
        while link.up and asked < 100_000:
            link.ask()
            asked += 1
        assert 1 < asked < 100_000
        link.close()


async def test_questions_that_wait_share_one_answer(run_dir: Path) -> None:
    module = FakeModule(run_dir / "reflex.sock")
    module.replies = []
    module.start()
    link, _ = make(module.path)
    assert link.ask() is None  # not connected yet
    link.start()
    await wait_until(lambda: link.up)
    first, second = link.ask(), link.ask()
    assert first is not None
    assert first is second
    link.overdue()
    await wait_until(lambda: not link.up)
    await wait_until(lambda: module.asked)
    assert module.asked is not None
    module.asked.send(module.meter.answer())
    await wait_until(first.done)
    assert link.report().up
    link.overdue()  # nobody waits: nothing is overdue
    assert link.report().up
    module.close()
    link.close()


async def test_closing_releases_whoever_waits(run_dir: Path) -> None:
    module = FakeModule(run_dir / "reflex.sock")
    module.replies = []
    module.start()
    link, _ = make(module.path)
    link.start()
    await wait_until(lambda: link.up)
    waiting = link.ask()
    assert waiting is not None
    link.close()
    link.close()
    assert waiting.done()
    assert not link.up
    module.close()


async def test_an_answer_nobody_asked_for_is_taken_and_nonsense_counted(run_dir: Path) -> None:
    module = FakeModule(run_dir / "reflex.sock")
    module.start()
    link, refused = make(module.path)
    link.start()
    await wait_until(lambda: link.up)
    link.ask()
    await wait_until(lambda: module.asked)
    assert module.asked is not None
    module.meter.inc("robot_beats_total", by=9)
    module.asked.send(module.meter.answer())
    await wait_until(lambda: link.report().table.get("robot_beats_total") == {(): 9})
    module.asked.send({"type": "metrics", "data": {"mood": [], "weather": []}})
    module.asked.send({"type": "state"})
    await wait_until(lambda: refused == [2, 1])
    module.close()
    link.close()
