"""The guardians' link closed in the very turn in which the broker's answer came: it ends all the same."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

import pytest

from agent.core.plan import Remote
from tests.mqtt_link import TOPIC, S, Told
from tests.waiting import DEADLINE_S, wait_until

NOWHERE = Remote(
    host="localhost",
    port=1,
    tls=False,
    protocol="5",
    ca="",
    cert="",
    key="",
    signing_key="",
    root_keys=(),
    trust="",
    groups=(),
    link_lost_ns=5 * S,
)


class Slow:
    """A client in the test's hands: at one step of a connection its answer comes when the test says so.

    It waits as the real one does, in `asyncio.wait_for`.
    """

    def __init__(self, step: str) -> None:
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waits = False
        self.ends = 0
        self._step = step

    async def _answered(self, step: str) -> None:
        if step == self._step:
            self.waits = True
            await asyncio.wait_for(self.answer, DEADLINE_S)

    async def __aenter__(self) -> Self:
        await self._answered("connecting")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ends += 1
        await self._answered("disconnecting")

    async def subscribe(self, topics: Sequence[tuple[str, int]]) -> list[int]:
        await self._answered("subscribing")
        return [1 for _ in topics]

    @property
    async def messages(self) -> AsyncIterator[object]:
        if self._step != "disconnecting":
            await asyncio.get_running_loop().create_future()
        yield object()

    def see_off(self) -> None:
        """Keeps no errors."""


@pytest.mark.parametrize("step", ["connecting", "subscribing", "disconnecting"])
async def test_an_answer_in_the_same_turn_does_not_hold_up_the_end(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.11's `wait_for` then loses the cancellation; without a look at it, `close` never returned."""
    told = Told(NOWHERE, topics=(f"{TOPIC}/cmd",))
    client = Slow(step)
    monkeypatch.setattr(told.link, "_make_client", lambda: client)
    told.link.start()
    await wait_until(lambda: client.waits)
    before = list(told.links)
    client.answer.set_result(None)
    async with asyncio.timeout(DEADLINE_S):
        await told.link.close()
    assert client.ends == 1
    assert told.links == before, "nothing is said of a link any more once its end has begun"
