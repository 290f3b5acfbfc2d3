"""One try: a fault, what verify says of it, the recorder that goes on, what verify says then."""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from agent.recorder.log import Record
from hil.log.deleter import Deleter, Ruling
from hil.log.judge import Case, Judged, judge
from hil.log.life import Fault, Order
from hil.log.nursery import Nursery
from hil.log.owner import BATCH_STEP, BOOT, SOURCE, Owner, batch, batches
from hil.log.writer import Writer

SMALL_SEGMENT = 4_096
"""Bytes: six batches or so, so that a short log has several of each stream."""
MORE = 2
"""Batches that the recorder goes on with after a fault."""
CLEAN, EXPLAINED, TAMPERED, INCOMPLETE = range(4)
"""Exit codes of verify."""
CRASHED = frozenset({CLEAN, EXPLAINED, INCOMPLETE})
"""What a crash may look like before the repair; afterwards it may not be INCOMPLETE."""
REPAIRED = frozenset({CLEAN, EXPLAINED})
FOUND = frozenset({TAMPERED})
UNSEALED = frozenset({INCOMPLETE})
CLEANLY = frozenset({CLEAN})
FOUND_OR_TORN = frozenset({TAMPERED, INCOMPLETE})
FOUND_OR_EXPLAINED = frozenset({TAMPERED, EXPLAINED})
"""A repair says what it could not read: damage in the ledger, signed, is an explanation."""
MAX_TOLD = 20
"""Wrong tries that are described; the rest is counted."""

Item = TypeVar("Item")


@dataclass(slots=True)
class Tally:
    """Of one fault. `found`, `after`: exit code -> how often verify gave it, as it was found and at the end.

    `lost`: acknowledged records that are not there; `silent`: those of them that no verdict reports;
    `wrong`: tries whose exit code was not the true one, in words; `untrue` counts them.
    """

    tries: int = 0
    lost: int = 0
    silent: int = 0
    untrue: int = 0
    found: Counter[int] = field(default_factory=Counter)
    after: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    reports: frozenset[str] = frozenset({"damaged", "loss"})
    """Findings that report a loss where the exit code is neither 2 nor 3."""

    @property
    def good(self) -> bool:
        """Nothing lost in silence, no exit code but the true one."""
        return not self.silent and not self.untrue and self.tries > 0

    def begin(self) -> None:
        """One more try."""
        self.tries += 1

    def see(self, code: int, true: frozenset[int], what: str) -> None:
        """Verify's exit code on the log as the fault left it."""
        self.found[code] += 1
        self._check(code, true, f"{what}, as found")

    def end(self, judged: Judged, true: frozenset[int], what: str) -> None:
        """The whole judgement at the end of a try."""
        self.after[judged.code] += 1
        self.mourn(judged, what)
        self._check(judged.code, true, f"{what}, afterwards {dict(judged.kinds)}")

    def fail(self, words: str) -> None:
        """Something else that is not as it must be."""
        self.untrue += 1
        self._tell(words)

    @contextmanager
    def surviving(self, what: str) -> Iterator[None]:
        """What writer or reader raise is one more thing that is not as it must be; the campaign goes on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - which error it is, nobody knows before
            self.fail(f"{what}: {type(error).__name__}: {error}")

    def mourn(self, judged: Judged, what: str) -> None:
        """Counts what is lost."""
        self.lost += judged.lost
        reported = judged.code in (TAMPERED, INCOMPLETE) or self.reports & judged.kinds.keys()
        if judged.lost and not reported:
            self.silent += judged.lost
            self._tell(f"{what}: {judged.lost} acknowledged records lost, exit {judged.code}")

    def _check(self, code: int, true: frozenset[int], what: str) -> None:
        if code not in true:
            self.fail(f"{what}: exit {code}, true is {'/'.join(map(str, sorted(true)))}")

    def _tell(self, words: str) -> None:
        if len(self.wrong) < MAX_TOLD:
            self.wrong.append(words)


class Modules:
    """The senders' side of one log: what was acknowledged to them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.genesis = b""
        self.refused = self.ended = False
        self.calls = self.failures = 0
        self._kept = 0
        self._numbers: set[int] = set()

    def copy(self) -> "Modules":
        """The same so far."""
        made = Modules(self.seed)
        made.genesis, made._kept, made._numbers = self.genesis, self._kept, set(self._numbers)
        return made

    def hear(self, words: Sequence[str]) -> None:
        """One line of a life."""
        if words[0] == "genesis" and not self.genesis:
            self.genesis = bytes.fromhex(words[1])
        elif words[0] == "kept":
            self._kept = max(self._kept, int(words[1]))
        elif words[0] == "ack":
            self._numbers.add(int(words[1]))
        elif words[0] == "refused":
            self.refused = True
        elif words[0] == "end":
            self.ended, self.calls, self.failures = True, int(words[1]), int(words[2])

    @property
    def next(self) -> int:
        """The batch after the last that was acknowledged."""
        return max(-(-self._kept // BATCH_STEP), max(self._numbers, default=-1) + 1)

    @property
    def acknowledged(self) -> list[Record]:
        """Whose loss would be one."""
        kept = batches(self.seed, 0, -(-self._kept // BATCH_STEP))
        told = (record for number in self._numbers for record in batch(self.seed, number))
        return list({record.seq: record for record in (*kept, *told)}.values())


@dataclass(slots=True)
class Ground:
    """Where a campaign takes place. `folder`: empty, its own; `thin`: one try of so many is made, 1 all.

    `advance`: told of each try that is done; `dice`: the seed of all that is random.
    """

    folder: Path
    owner: Owner
    nursery: Nursery
    dice: random.Random
    thin: int = 1
    lives: int = 1_000
    advance: Callable[[int], None] = lambda _: None

    def some(self, items: Sequence[Item], thin: int = 1) -> Iterator[Item]:
        """Every `thin`-th of the full campaign, fewer of a thinned one; at least one of them."""
        step = max(1, min(thin * self.thin, len(items)))
        for item in items[self.dice.randrange(step) :: step]:
            self.advance(1)
            yield item

    def fresh(self, name: str = "log") -> Path:
        """A folder's path at which nothing is."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        return path

    def case(self, folder: Path, modules: Modules, witness: Path | None = None) -> Case:
        """Of the campaign's owner."""
        return Case(folder, self.owner, modules.genesis, witness)

    def live(self, folder: Path, modules: Modules, end: int, fault: Fault, size: int = SMALL_SEGMENT) -> None:
        """One life in a process of its own, to the batch before `end`; raises NurseryError."""
        for _ in self.tell(folder, modules, end, fault, size):
            pass

    def met(self, folder: Path, modules: Modules, end: int, fault: Fault) -> bool:
        """The same; whether the fault came: a life that ended in order before it is no try of it."""
        modules.ended, modules.failures = False, 0
        self.live(folder, modules, end, fault)
        return modules.failures > 0 or not modules.ended

    def tell(
        self,
        folder: Path,
        modules: Modules,
        end: int,
        fault: Fault,
        size: int = SMALL_SEGMENT,
        ruling: Ruling | None = None,
    ) -> Iterator[Sequence[str]]:
        """The same, and every line of it; with `ruling` it deletes."""
        order = Order.of(folder, self.owner, modules.seed, end, size, fault)
        for words in self.nursery.live(replace(order, ruling=ruling)):
            modules.hear(words)
            yield words


def go_on(ground: Ground, folder: Path, modules: Modules, deleter: Deleter | None = None) -> None:
    """The recorder starts again, here, carries out what it is ordered, and takes more; raises LogError."""
    clocks, between = (None, None) if deleter is None else (deleter.clocks, deleter.begin)
    with Writer(folder, ground.owner, segment_bytes=SMALL_SEGMENT, clocks=clocks, between=between) as writer:
        modules.hear(["genesis", writer.ledger.genesis_line.hex()])
        writer.boot()
        if deleter is not None:
            deleter.rest(writer)
        modules.hear(["kept", str(writer.log.last_seq(SOURCE, BOOT))])
        for number in range(modules.next, modules.next + MORE):
            records = [record for record in batch(modules.seed, number) if not writer.log.has(record)]
            writer.log.append(records)
            modules.hear(["ack", str(number)])
        writer.checkpoint()


def finish(ground: Ground, case: Case, modules: Modules) -> Judged:
    """Reopened, appended to, closed, verified, decrypted and compared."""
    go_on(ground, case.folder, modules)
    return judge(case, modules.acknowledged)


def try_crash(
    ground: Ground,
    folder: Path,
    modules: Modules,
    tally: Tally,
    what: str,
    true: frozenset[int] = REPAIRED,
) -> None:
    """A log that a process left in the middle of something: nothing is lost, or looks tampered with.

    `true`: exit codes of verify that are, once the recorder has gone on.
    """
    tally.begin()
    if not modules.genesis:
        go_on(ground, folder, modules)  # it is registered with this start
    case = ground.case(folder, modules)
    judged = judge(case, modules.acknowledged)
    tally.see(judged.code, CRASHED, f"{what} {dict(judged.kinds)}")
    tally.mourn(judged, what)
    with tally.surviving(what):
        tally.end(finish(ground, case, modules), true, what)
