"""A module as monitor sees it: a real link server that answers, keeps silent, or talks nonsense."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from agent.link import MAX_MODULE_PACKET, Connection, Message, Server
from agent.metrics import Meter


class FakeModule:
    """`meter`: what it answers from. `replies`: what it says instead, where not None; [] is silence."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.meter = Meter()
        self.replies: list[Mapping[str, object]] | None = None
        self.hellos: list[Message] = []
        self.questions = 0
        self.asked: Connection | None = None
        self._server = self._make()

    def _make(self) -> Server:
        return Server(
            asyncio.get_running_loop(),
            self.path,
            allowed_uids=frozenset({os.geteuid()}),
            mode=0o600,
            max_packet=MAX_MODULE_PACKET,
            on_message=self._heard,
            on_end=lambda _: None,
            on_bad=lambda _: None,
        )

    def start(self) -> None:
        self._server.start()

    def restart(self) -> None:
        """As after kill -9: the counts begin again."""
        self._server.close()
        self.meter = Meter()
        self._server = self._make()
        self._server.start()

    def close(self) -> None:
        self._server.close()

    def _heard(self, connection: Connection, message: Message) -> None:
        if message["type"] == "hello":
            self.hellos.append(message)
            return
        assert message == {"type": "metrics"}
        self.questions += 1
        self.asked = connection
        for reply in [self.meter.answer()] if self.replies is None else self.replies:
            connection.send(reply)
