"""Monitor: the module's parts joined, one scrape at a time."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from agent.link import LinkError
from agent.metrics import Meter, Presets, preset_all
from agent.monitor.access import BasicAuth, Tls
from agent.monitor.errors import MonitorError
from agent.monitor.host import Host
from agent.monitor.links import ModuleLink
from agent.monitor.tables import Table, families, merge, read_own
from agent.monitor.web import Page, WebServer

ANSWER_WITHIN_S: Final = 0.3
"""A module that needs longer is shown as down; a scrape never waits longer for it."""
ASK_EVERY_NS: Final = 250_000_000
"""Between two questions to a module: a storm of scrapes must not load `reflex`."""

NAME: Final = "monitor"


class Monitor:
    """Serves `/metrics` and `/healthz` for one robot.

    `meter`: this module's own counts, for its main to add to (`loop_lag_seconds`, `realtime`,
    `log_lost_total`).
    """

    def __init__(  # noqa: PLR0913 - all by keyword
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        sockets: Mapping[str, Path],
        listen: str,
        presets: Presets,
        boot: str,
        allowed_uids: frozenset[int],
        folders: Mapping[str, Path] | None = None,
        tls: Tls | None = None,
        password_file: Path | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
        answer_within_s: float = ANSWER_WITHIN_S,
    ) -> None:
        """Reads the files that access needs and opens nothing yet.

        `sockets`: module -> its socket. `listen`: `host:port` (`[::1]:9477`; port 0 takes a free one).
        `boot`: 32 hex digits, one per process start. `allowed_uids`: whom a module's socket may belong to.
        `folders`: label -> folder whose room is shown. `now_ns`: CLOCK_MONOTONIC.
        Raises MonitorError for an address or file that cannot be used.
        """
        self.meter = Meter()
        preset_all(self.meter, presets)
        self._loop = loop
        self._now_ns = now_ns
        self._answer_within_s = answer_within_s
        self._host = Host(folders or {}, now_ns)
        self._scrapes = 0
        self._address: tuple[str, int] | None = None
        self._asked_ns: int | None = None
        self._asking: asyncio.Task[None] | None = None
        hello = {"type": "hello", "role": NAME, "boot": boot, "pid": os.getpid()}
        self._links = {
            module: ModuleLink(
                loop, path, module=module, hello=hello, allowed_uids=allowed_uids, on_bad=self._bad_packets
            )
            for module, path in sockets.items()
        }
        host, port = _address(listen)
        self._tls, self._auth = tls, None if password_file is None else BasicAuth(password_file, now_ns)
        self._web = WebServer(
            {"/metrics": Page(self._metrics, protected=True), "/healthz": Page(_healthz, protected=False)},
            host=host,
            port=port,
            tls=None if tls is None else tls.context(),
            auth=self._auth,
            on_refused=lambda: self.meter.inc("bad_input_total", "http"),
        )

    async def start(self) -> None:
        """Connects to the modules and listens; raises MonitorError for what can never work."""
        try:
            for link in self._links.values():
                link.start()
        except LinkError as error:
            await self.close()
            raise MonitorError(str(error), "no module can be asked there") from error
        self._address = await self._web.start()

    async def close(self) -> None:
        """Idempotent."""
        await self._web.close()
        for link in self._links.values():
            link.close()
        if self._asking is not None:
            await self._asking

    def status(self) -> dict[str, object]:
        """JSON-able: where it listens, who is up, how many scrapes there were."""
        return {
            "listen": None if self._address is None else _spelled(*self._address),
            "tls": self._tls is not None,
            "authentication": self._auth is not None,
            "modules": {module: {"up": link.up} for module, link in self._links.items()},
            "scrapes": self._scrapes,
        }

    def table(self) -> Table:
        """All that is known now, without asking."""
        self.meter.set("module_up", 1, NAME)
        for module, link in self._links.items():
            self.meter.set("module_up", float(link.up), module)
        own = read_own(self.meter.snapshot())
        return merge(own | self._host.sample(), [link.report() for link in self._links.values()])

    async def ask(self) -> None:
        """Asks every module, unless that was done within the last 250 ms; waits `answer_within_s` at most.

        Scrapes that come together share one question.
        """
        now_ns = self._now_ns()
        if self._asking is None and (self._asked_ns is None or now_ns - self._asked_ns >= ASK_EVERY_NS):
            self._asked_ns = now_ns
            self._asking = self._loop.create_task(self._ask_all(), name="ask modules")
        if self._asking is not None:
            await asyncio.shield(self._asking)

    async def _ask_all(self) -> None:
        try:
            answers = {link: answer for link in self._links.values() if (answer := link.ask()) is not None}
            if answers:
                _, late = await asyncio.wait(answers.values(), timeout=self._answer_within_s)
                for link, answer in answers.items():
                    if answer in late:
                        link.overdue()
        finally:
            self._asking = None

    async def _metrics(self, accept: str) -> tuple[str, bytes]:
        await self.ask()
        self._scrapes += 1
        encode, content_type = choose_encoder(accept)
        return content_type, encode(_Fixed(self.table()))

    def _bad_packets(self, count: int) -> None:
        self.meter.inc("bad_input_total", "module_link", by=count)


class _Fixed(Collector):
    """One scrape's table, as Prometheus' client library asks for it."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def collect(self) -> list[Family]:
        return list(families(self._table))


async def _healthz(_: str) -> tuple[str, bytes]:
    """The loop turns; nothing about the robot, so it needs no password."""
    return "text/plain; charset=utf-8", b"ok\n"


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if (
        not bare
        or not (port.isascii() and port.isdigit())
        or int(port) > 65535
        or (":" in bare) != (bare != host)
    ):
        raise MonitorError(listen, "is not host:port, with a port from 0 to 65535")
    return bare, int(port)


def _spelled(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
