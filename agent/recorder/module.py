"""`recorder` as a process: the plan's folder, the module's socket, its figures for people and Prometheus."""

import asyncio
import os
import sys
from pathlib import Path

from agent.core.plan import Plan
from agent.metrics import STREAMS
from agent.processes import BY_NAME, allowed_uids, may_claim
from agent.recorder.plain import PlainLog
from agent.recorder.service import RecorderService
from agent.shell import TICK_NS, Shell, Ticker

NAME = "recorder"


class Recorder:
    """The module."""

    def __init__(self, plan: Plan, loop: asyncio.AbstractEventLoop) -> None:
        self.shell = Shell(plan, NAME, loop, serve=False)
        self.shell.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        Path(plan.recorder.dir).parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        self.log = PlainLog(Path(plan.recorder.dir))
        self.service = RecorderService(
            loop,
            socket_path=self.shell.folder / "recorder.sock",
            log=self.log,
            boot=self.shell.boot,
            allowed_uids=allowed_uids(BY_NAME),
            peers=self.shell.row.peers,
            may_claim=may_claim,
            answers={"metrics": self._metrics, "status": self._status},
            on_trouble=_say,
        )
        self.shell.emit = self.service.note
        self.ticker: Ticker | None = None
        self._told: dict[tuple[str, str], int] = {}

    def start(self) -> None:
        """Listens and keeps."""
        self.service.start()
        self.ticker = Ticker(self.shell, lambda _: None, period_ns=10 * TICK_NS)

    def close(self) -> None:
        """Keeps what has arrived, then ends; idempotent."""
        if self.ticker is not None:
            self.ticker.close()
        self.service.close()
        self.log.close()
        self.shell.close()

    def _status(self) -> dict[str, object]:
        return {"module": self.shell.about(), **self.service.figures()}

    def _metrics(self) -> dict[str, object]:
        meter, totals = self.shell.meter, self.log.totals
        for stream in STREAMS:
            total = totals.get(stream)
            records, size, oldest_ns = (
                (total.records, total.bytes, total.oldest_wall_ns) if total is not None else (0, 0, 0)
            )
            self._raise_to("log_records_total", records, stream)
            self._raise_to("log_lost_total", self.service.lost[stream], stream)
            meter.set("log_bytes", size, stream)
            meter.set("log_oldest_timestamp_seconds", oldest_ns / 1e9, stream)
        meter.set("log_last_commit_timestamp_seconds", self.service.last_commit_wall_ns / 1e9)
        return {"data": meter.snapshot()}

    def _raise_to(self, name: str, total: int, stream: str) -> None:
        """Brings a counter up to a total that is counted elsewhere."""
        known = self._told.get((name, stream), 0)
        self.shell.meter.inc(name, stream, by=max(0, total - known))
        self._told[name, stream] = max(known, total)


def _say(trouble: str | None) -> None:
    word = "works again" if trouble is None else trouble
    sys.stderr.write(f"recorder {os.getpid()}: {word}\n")
