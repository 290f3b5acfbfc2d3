"""The witness's link inside this process: many robots at once, and a broker that is not there."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from console.link import Inbox
from console.witness import service as module
from console.witness.record import Robot, Witness
from console.witness.service import MAX_ANSWERS, WitnessService
from console.witness.show import TextShow
from console.witness.store import Store
from tests.console.robots import Site
from tests.console.witness.conftest import publisher
from tests.waiting import wait_until


class Told(TextShow):
    """Keeps what it is told of the link."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[tuple[bool, str]] = []

    def link(self, *, up: bool, why: str) -> None:
        self.links.append((up, why))


@contextlib.asynccontextmanager
async def running(service: WitnessService) -> AsyncIterator[None]:
    task = asyncio.create_task(service.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_thousand_robots_are_told_where_to_go_on_without_crowding(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = Witness(Store(tmp_path / "w"))
    witness.robots |= {f"X{number}": Robot() for number in range(1000)} | {"R1": Robot()}
    most = 0
    answer = module.WitnessLink.answer

    async def watched(link: module.WitnessLink, topic: str, payload: str, inbox: Inbox) -> None:
        nonlocal most
        await answer(link, topic, payload, inbox)
        most = max(most, len(link._sending))

    monkeypatch.setattr(module.WitnessLink, "answer", watched)
    service = WitnessService(witness, site.profile(tmp_path), Told())
    async with publisher(site) as robot, running(service):
        assert await robot.heads(1) == [(-1, "")]
    assert most == MAX_ANSWERS


async def test_a_broker_that_is_not_there_is_told_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.01)
    own = Site.create(tmp_path / "own")
    with own.broker:
        profile = own.profile(tmp_path)
    show = Told()
    witness = Witness(Store(tmp_path / "w"))
    attempts = 0
    enter = module.WitnessLink.__aenter__

    async def counted(link: module.WitnessLink) -> module.WitnessLink:
        nonlocal attempts
        attempts += 1
        return await enter(link)

    monkeypatch.setattr(module.WitnessLink, "__aenter__", counted)
    async with running(WitnessService(witness, profile, show)):
        await wait_until(lambda: attempts >= 3)
        assert [up for up, _ in show.links] == [False]
        with own.broker:
            await wait_until(lambda: show.links[-1][0])
        await wait_until(lambda: not show.links[-1][0])
    assert [up for up, _ in show.links] == [False, True, False]


async def test_what_comes_too_fast_is_counted(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = WitnessService(Witness(Store(tmp_path / "w")), site.profile(tmp_path), Told())
    inbox = Inbox()
    inbox.dropped = 3

    @contextlib.contextmanager
    def listen(link: module.WitnessLink) -> Iterator[Inbox]:
        yield inbox

    monkeypatch.setattr(module.WitnessLink, "listen", listen)
    async with running(service):
        await wait_until(lambda: service.connected_since_s is not None)
    assert service.dropped == 3
