"""One connection to a module: the question for its counts, and its last answer."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.link import Client, Connection, Message
from agent.monitor.tables import Report, Table, read_answer

_QUESTION = {"type": "metrics"}


class ModuleLink:
    """Keeps the connection to one module's socket and remembers what it answered last."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: Path,
        *,
        module: str,
        hello: Mapping[str, object],
        allowed_uids: frozenset[int],
        on_bad: Callable[[int], None],
    ) -> None:
        """`on_bad(count)`: so many things of this module were refused."""
        self._loop = loop
        self._module = module
        self._on_bad = on_bad
        self._table: Table = {}
        self._waiting: asyncio.Future[None] | None = None
        self._silent = False
        self._client = Client(
            loop,
            path,
            hello=dict(hello),
            allowed_uids=allowed_uids,
            on_open=self._opened,
            on_message=self._heard,
            on_end=self._ended,
            on_bad=lambda _reason: on_bad(1),
        )

    @property
    def up(self) -> bool:
        """Connected, and the last question was answered (or none was asked yet)."""
        return self._client.connected and not self._silent

    def report(self) -> Report:
        """The last answer, empty before the first one."""
        return Report(self.up, self._table)

    def start(self) -> None:
        """Connects, and again whenever the connection ends; raises LinkError for an impossible path."""
        self._client.start()

    def close(self) -> None:
        """Idempotent; whoever waits for an answer is released."""
        self._client.close()
        self._release()

    def ask(self) -> asyncio.Future[None] | None:
        """Asks; the future is done with the answer or with the end of the connection.

        None when not connected. A module whose buffer is full has left earlier questions unanswered and
        counts as silent.
        """
        if not self._client.connected:
            return None
        if self._waiting is None:
            self._waiting = self._loop.create_future()
        if not self._client.send(_QUESTION):
            self._silent = True
        return self._waiting

    def overdue(self) -> None:
        """The time for the answer is over: silent until it speaks."""
        if self._waiting is not None:
            self._silent = True

    def _opened(self, connection: Connection) -> None:
        self._silent = False

    def _heard(self, connection: Connection, message: Message) -> None:
        if message["type"] != "metrics":
            self._on_bad(1)
            return
        self._table, dropped = read_answer(self._module, message)
        self._silent = False
        if dropped:
            self._on_bad(dropped)
        self._release()

    def _ended(self, connection: Connection) -> None:
        self._release()

    def _release(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
        self._waiting = None
