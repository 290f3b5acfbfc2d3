"""The real writer put together as `recorder` has it: the ledger, then the streams, on one folder."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.logformat.suites import suite_by_number
from agent.recorder.log import LogError, Record
from agent.recorder.sealed.disk import Disk
from agent.recorder.sealed.folder import open_locked
from agent.recorder.sealed.keys import load_state_key
from agent.recorder.sealed.ledger import Birth, Entry, Ledger
from agent.recorder.sealed.log import SealedLog
from agent.recorder.sealed.parts import SEGMENT_BYTES, Clocks, Sealing
from hil.log.owner import Owner

AGENT = {"version": "0", "digest": "00" * 32}


class Writer:
    """`ledger` and `log`, open until `close`; raises LogError when the disk refuses one of them.

    `close` is how `recorder` ends in order.
    """

    def __init__(
        self,
        folder: Path,
        owner: Owner,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        clocks: Clocks | None = None,
        disk: Disk | None = None,
        on_entry: Callable[[Entry], None] | None = None,
        between: Callable[[Ledger], None] | None = None,
    ) -> None:
        """`segment_bytes`: small ones let faults meet rotations; `disk`, `on_entry`: see `Ledger`.

        `between`: called with the ledger before the streams are opened, where `recorder` finishes deletions.
        """
        clocks = clocks or Clocks()
        self._folder_fd = open_locked(folder)
        self._ledger: Ledger | None = None
        self._log: SealedLog | None = None
        try:
            key = load_state_key(self._folder_fd, folder, environ={})
            birth = Birth(owner.robot, owner.suite, (owner.kid,), "any", AGENT)
            self._ledger = Ledger(
                folder,
                self._folder_fd,
                birth=birth,
                key=key,
                clocks=clocks,
                disk=disk,
                on_entry=on_entry,
            )
            if between is not None:
                between(self._ledger)
            recipients = ((owner.kid, owner.public),)
            sealing = Sealing(
                owner.robot, suite_by_number(owner.suite), recipients, segment_bytes=segment_bytes
            )
            self._log = SealedLog(
                folder, sealing, self._ledger, folder_fd=self._folder_fd, disk=disk, clocks=clocks
            )
        except BaseException:
            self.close()
            raise

    @property
    def ledger(self) -> Ledger:
        """Open until `close`."""
        if self._ledger is None:
            raise RuntimeError("closed")
        return self._ledger

    @property
    def log(self) -> SealedLog:
        """Open until `close`."""
        if self._log is None:
            raise RuntimeError("closed")
        return self._log

    def boot(self) -> None:
        """What `recorder` says first; LogError."""
        self.ledger.append("boot", {"plan": "00" * 32, "agent": AGENT, "state": self.ledger.kept_by})

    def checkpoint(self) -> None:
        """Of every stream that is open, as `Keeper` writes it; nothing where none is. LogError."""
        heads = self.log.heads()
        if heads:
            streams = {name: asdict(head) for name, head in heads.items()}
            self.ledger.append("checkpoint", {"streams": streams})

    def append(self, records: Sequence[Record], tries: int = 1) -> bool:
        """All of them on the disk, however often that has to be tried, up to `tries`; whether they are."""
        for _ in range(tries):
            with suppress(LogError):
                self.log.append(records)
                return True
        return False

    def close(self) -> None:
        """Idempotent."""
        if self._log is not None:
            self._log.close()
        if self._ledger is not None:
            self._ledger.close()
        if self._folder_fd >= 0:
            os.close(self._folder_fd)
        self._log = self._ledger = None
        self._folder_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
