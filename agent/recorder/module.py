"""`recorder` as a process: the plan's sealed log, the modules' socket, figures for people and Prometheus."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent.core.plan import Plan
from agent.link import Connection, Message
from agent.metrics import STREAMS
from agent.processes import BY_NAME, allowed_uids, may_claim
from agent.recorder.clocks import WallClock
from agent.recorder.keeper import Keeper, Times
from agent.recorder.log_desk import LogDesk
from agent.recorder.packets import read_sample
from agent.recorder.relay import LedgerRelay
from agent.recorder.sealed.parts import Clocks
from agent.recorder.service import RecorderService
from agent.recorder.space import Space
from agent.recorder.store import Store, witnesses_of
from agent.shell import TICK_NS, Shell, Ticker

NAME = "recorder"
COMMIT_SHARE = 4
"""No event waits for its commit longer than a quarter of the time after which the recorder counts as lost."""


class Recorder:
    """The module."""

    def __init__(self, plan: Plan, loop: asyncio.AbstractEventLoop, clocks: Clocks | None = None) -> None:
        self.shell = Shell(plan, NAME, loop, serve=False)
        self.plan = plan
        self.shell.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        Path(plan.recorder.dir).parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        self.clock = WallClock()
        self.store = Store(plan, clocks)
        self.desk = LogDesk(plan, self.store, self._recorded)
        self.service = RecorderService(
            loop,
            socket_path=self.shell.folder / "recorder.sock",
            log=self.store.log,
            boot=self.shell.boot,
            allowed_uids=allowed_uids(BY_NAME),
            peers=self.shell.row.peers,
            may_claim=may_claim,
            clock=self.clock.state,
            answers={"metrics": self._metrics, "status": self._status},
            handlers={"sample": self._sample, "witness_ack": self._receipt, **self.desk.handlers},
            on_trouble=self._trouble,
            longest_wait_s=plan.times.recorder_lost_ns / 1e9 / COMMIT_SHARE,
        )
        self.relay = LedgerRelay(
            plan.robot.id,
            self.store.published,
            witnesses_of(plan),
            note=self.service.note,
            refuse=self.service.refuse,
        )
        wanted = plan.recorder
        self.keeper = Keeper(
            Times(wanted.checkpoint_ns, wanted.incident_before_ns, wanted.incident_after_ns),
            ledger=self.store.ledger,
            segments=self.store.log,
            space=Space(Path(wanted.dir)),
            clock=self.clock,
            note=self.service.note,
            tell_level=self._tell_level,
        )
        self._reflex: set[Connection] = set()
        self.service.on_written = self.keeper.written
        self.service.admits = self._admits
        self.service.on_hello = self._greeted
        self.service.on_ended = self._left
        self.shell.emit = self.service.note
        self.ticker: Ticker | None = None
        self._told: dict[tuple[str, ...], float] = {}

    def start(self) -> None:
        """Listens and keeps."""
        for reason in self.store.memory.reasons:
            sys.stderr.write(f"{NAME}: {reason}\n")
        self.service.start()
        self.keeper.look()
        self.ticker = Ticker(self.shell, self._tick, period_ns=10 * TICK_NS)

    def close(self) -> None:
        """Keeps what has arrived, then ends; idempotent."""
        if self.ticker is not None:
            self.ticker.close()
        self.service.close()
        self.keeper.close()
        self.store.close()
        self.shell.close()

    # ---- what wakes it

    def _tick(self, _: int) -> None:
        self.keeper.tick(time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        self.relay.tick()

    def _greeted(self, connection: Connection) -> None:
        if connection.role == "reflex":
            self._reflex.add(connection)
            self._tell_level(self.keeper.level)
        self.relay.opened(connection)

    def _left(self, connection: Connection) -> None:
        self._reflex.discard(connection)
        self.relay.ended(connection)

    def _sample(self, connection: Connection, message: Message) -> None:
        sample = read_sample(message)
        if sample is None:
            self.service.refuse(f"{connection.role} (uid {connection.peer_uid}): malformed sample")
        else:
            self.keeper.incidents.sample(sample)

    def _recorded(self, kind: str, body: Mapping[str, object]) -> None:
        self.service.note(kind, body)

    def _receipt(self, connection: Connection, message: Message) -> None:
        self.relay.heard(connection, message)

    # ---- room

    def _admits(self, stream: str) -> bool:
        if self.keeper.admits(stream):
            return True
        self.keeper.lost(stream)
        return False

    def _tell_level(self, level: int) -> None:
        for connection in self._reflex:
            connection.send({"type": "space", "level": level})

    def _trouble(self, trouble: str | None) -> None:
        if trouble is not None and self.service.full:
            self.keeper.look(full=True)
        word = "works again" if trouble is None else trouble
        sys.stderr.write(f"recorder {os.getpid()}: {word}\n")

    # ---- what people and Prometheus see

    def _status(self) -> dict[str, object]:
        head = self.store.ledger.head
        return {
            "module": self.shell.about(),
            **self.service.figures(),
            "ledger": {"n": head.n, "hash": head.hash, "broken_off": self.store.ledger.broken_off},
            "witnessed": self.relay.witnessed,
            "state_kept_by": self.store.ledger.kept_by,
            "memory": self.store.memory.as_dict(),
            "space": {"level": self.keeper.level, "means": self.keeper.means},
            "ledger_trouble": self.keeper.trouble,
        }

    def _metrics(self) -> dict[str, object]:
        meter, totals, service = self.shell.meter, self.store.log.totals, self.service
        for stream in STREAMS:
            total = totals.get(stream)
            records, size, oldest_ns = (
                (total.records, total.bytes, total.oldest_wall_ns) if total is not None else (0, 0, 0)
            )
            self._raise_to("log_records_total", records, stream)
            self._raise_to("log_lost_total", service.lost[stream], stream)
            meter.set("log_bytes", size, stream)
            meter.set("log_oldest_timestamp_seconds", oldest_ns / 1e9, stream)
        self._raise_to("log_write_errors_total", service.write_errors)
        self._raise_to("log_recovered_total", len(self.store.log.recovered) + self.store.ledger_torn)
        self._raise_to("log_incidents_total", self.keeper.incidents_total)
        for name, value in self._gauges():
            meter.set(name, value)
        return {"data": meter.snapshot()}

    def _gauges(self) -> Iterator[tuple[str, float]]:
        yield "log_last_commit_timestamp_seconds", self.service.last_commit_wall_ns / 1e9
        yield "log_ledger_entry", self.store.ledger.head.n
        yield "log_witnessed_entry", self.relay.witnessed
        yield "log_witness_last_timestamp_seconds", self.relay.witness_time_s
        yield "log_state_sealed", float(self.store.ledger.kept_by == "credential")
        yield "log_space_level", self.keeper.level
        yield "log_space_free_ratio", self.keeper.free_ratio

    def _raise_to(self, name: str, total: float, *labels: str) -> None:
        """Brings a counter up to a total that is counted elsewhere."""
        key = (name, *labels)
        known = self._told.get(key, 0)
        self.shell.meter.inc(name, *labels, by=max(0, total - known))
        self._told[key] = max(known, total)
