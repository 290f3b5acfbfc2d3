"""The witness at its broker: takes what comes, answers what is kept, comes back by itself."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from agent.tokens import load_private_key
from console.errors import MqttLinkError
from console.link import Inbox, Link
from console.profile import Profile
from console.witness.notices import Notice
from console.witness.receipts import ack_topic, ledger_topic, robot_of, token
from console.witness.record import Receipt, Witness
from console.witness.show import WitnessShow

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 15.0
"""Between two attempts to connect. A robot repeats what was not answered every 30 s."""
MAX_ANSWERS: Final = 64
"""Receipts on their way to the broker. Until there is room nothing more is taken, which the broker feels."""
TICK_S: Final = 1.0


class WitnessLink(Link):
    """The guardians' link, with a bound on what is on its way."""

    async def answer(self, topic: str, payload: str, inbox: Inbox) -> None:
        """Publishes once there is room; a failure ends the connection by way of `inbox`."""
        while len(self._sending) >= MAX_ANSWERS:
            await asyncio.wait(self._sending, return_when=asyncio.FIRST_COMPLETED)
        self.publish(topic, payload, inbox)


class WitnessService:
    """One witness on one broker, until it is cancelled. Raises KeyFileError or ProfileError at once."""

    def __init__(
        self,
        witness: Witness,
        profile: Profile,
        show: WitnessShow,
        *,
        robots: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`robots`: none for all. `clock`: as the witness's own."""
        self.connected_since_s: float | None = None
        self.dropped = 0
        """Packets of earlier connections that came faster than they could be kept; robots repeat them."""
        self._witness = witness
        self._profile = profile
        self._show = show
        self._topics = [ledger_topic(robot_id) for robot_id in robots or ("+",)]
        self._clock = clock
        self._wall = wall
        self._key = load_private_key(profile.signing_key)
        profile.tls()  # what cannot be mended by trying again is said before the first attempt

    async def run(self) -> None:
        """For ever."""
        ticking = asyncio.create_task(self._watch_silence(), name="witness silence")
        try:
            await self._keep_up()
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)

    async def _keep_up(self) -> None:
        wait_s, told = FIRST_WAIT_S, ""
        while True:
            try:
                await self._connection()
            except MqttLinkError as error:
                if self.connected_since_s is not None or str(error) != told:
                    self._show.link(up=False, why=str(error))
                told = str(error)
            if self.connected_since_s is not None:
                wait_s = FIRST_WAIT_S
            self.connected_since_s = None
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    async def _connection(self) -> None:
        async with WitnessLink(self._profile) as link:
            with link.listen() as inbox:
                await link.subscribe(self._topics)
                self.connected_since_s = self._clock()
                self._show.link(up=True, why=link.broker)
                try:
                    await self._serve(link, inbox)
                finally:
                    self.dropped += inbox.dropped

    async def _serve(self, link: WitnessLink, inbox: Inbox) -> None:
        for receipt in list(self._witness.announce()):
            await self._answer(link, inbox, receipt)
        while (packet := await inbox.get(None)) is not None:
            outcome = self._witness.take(robot_of(packet.topic), packet.payload)
            if outcome.receipt is not None:
                await self._answer(link, inbox, outcome.receipt)
            self._tell(outcome.notices)

    async def _answer(self, link: WitnessLink, inbox: Inbox, receipt: Receipt) -> None:
        signed = token(receipt, kid=self._profile.kid, key=self._key, now_s=self._wall())
        await link.answer(ack_topic(receipt.robot), signed, inbox)

    async def _watch_silence(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._tell(self._witness.tick(self.connected_since_s))

    def _tell(self, notices: Sequence[Notice]) -> None:
        for notice in notices:
            self._show.notice(notice)
