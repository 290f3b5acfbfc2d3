"""Any order of entries, refusals, crashes and power cuts, beside a model that is a list."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.recorder.log import LogError
from agent.recorder.sealed.folder import open_folder
from agent.recorder.sealed.keys import load_state_key
from agent.recorder.sealed.ledger import Ledger
from tests.recorder.sealed.ledgers import BIRTH, LEDGER, Clock, Crash, PowerDisk, lines_of, verified

Fault = Callable[[int, str], None]


class LedgerMachine(RuleBasedStateMachine):
    """`durable`: contents that append returned for; `doubtful`: refused since, and perhaps there."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp()) / "log"
        self.durable: list[int] = []
        self.doubtful: list[int] = []
        self.count = 0
        self.disk = PowerDisk()
        self.ledger: Ledger | None = None
        self.folder_fd = open_folder(self.folder)

    def teardown(self) -> None:
        if self.ledger is not None:
            self.ledger.close()
        os.close(self.folder_fd)
        shutil.rmtree(self.folder.parent)

    @initialize()
    def begin(self) -> None:
        self.open_()

    def open_(self) -> None:
        self.disk = PowerDisk()
        self.ledger = Ledger(
            self.folder,
            self.folder_fd,
            birth=BIRTH,
            key=load_state_key(self.folder_fd, self.folder, environ={}),
            clocks=Clock().clocks,
            disk=self.disk,
            reserve=lambda _fd, _start, _size: None,
        )
        assert self.ledger.broken_off == ""
        self.settle()

    def settle(self) -> None:
        """What was in doubt and is there was there all along: at the end, in its order."""
        there = self.contents()
        assert there[: len(self.durable)] == self.durable
        more = there[len(self.durable) :]
        assert more == [count for count in self.doubtful if count in more]
        self.durable, self.doubtful = there, []

    def contents(self) -> list[int]:
        return [json.loads(line)["body"]["count"] for line in lines_of(self.folder / LEDGER)[1:]]

    def append(self, count: int) -> None:
        assert self.ledger is not None
        entry = self.ledger.append("loss", {"stream": "net", "count": count, "reason": "full"})
        assert entry == self.ledger.head
        self.settle()
        assert self.durable[-1] == count

    @rule()
    def add(self) -> None:
        self.count += 1
        self.doubtful.append(self.count)
        self.append(self.count)

    @rule(
        ahead=st.integers(1, 7),
        times=st.integers(1, 3),
        part=st.sampled_from([None, 0, 1, 100, 10_000]),
        number=st.sampled_from([errno.ENOSPC, errno.EIO]),
    )
    def add_refused(self, ahead: int, times: int, part: int | None, number: int) -> None:
        self.count += 1
        self.doubtful.append(self.count)
        self.disk.part = part
        first = self.disk.step + ahead

        def refuse(step: int, _name: str) -> None:
            if first <= step < first + times:
                raise OSError(number, "refused")

        self.disk.fault = refuse
        with suppress(LogError):
            self.append(self.count)
        self.disk.fault = lambda _step, _name: None

    @precondition(lambda self: self.doubtful)
    @rule()
    def add_again(self) -> None:
        self.append(self.doubtful[-1])

    @rule(
        ahead=st.integers(1, 7),
        part=st.sampled_from([None, 100]),
        how=st.sampled_from(["none", "half", "all"]),
    )
    def power_cut(self, ahead: int, part: int | None, how: str) -> None:
        self.count += 1
        self.doubtful.append(self.count)
        self.disk.part = part
        last = self.disk.step + ahead

        def end(step: int, _name: str) -> None:
            if step == last:
                raise Crash

        self.disk.fault = end
        with suppress(Crash):
            self.append(self.count)
        self.disk.cut_power(how)
        self.open_()

    @rule()
    def restart(self) -> None:
        assert self.ledger is not None
        self.ledger.close()
        self.open_()

    @invariant()
    def is_whole(self) -> None:
        assert not list(self.folder.glob("ledger-*"))
        if self.ledger is not None and not self.doubtful:
            assert len(verified(self.folder / LEDGER)) == len(self.durable) + 1


LedgerMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestLedger = LedgerMachine.TestCase
