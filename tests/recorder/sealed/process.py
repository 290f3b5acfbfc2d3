"""A process that appends to a sealed log until it is killed.

    python -m tests.recorder.sealed.process FOLDER [SEED]

It asks the log itself what is acknowledged of each sender, as a sender learns it at `hello`, and goes on with
the number after it. On standard output it says `start SENDER SEQ` (what `last_seq` says), then after each
batch `ack SENDER SEQ` (all up to SEQ are on disk), so that whoever kills it knows what must be found again. A
record's body follows from its number, with noise of several sizes, so that frames and segments have many.
"""

import random
import sys
from dataclasses import replace
from pathlib import Path

from agent.logformat.layout import STREAMS
from agent.recorder.log import Record
from agent.recorder.sealed.log import SealedLog
from agent.recorder.sealed.parts import Sealing
from tests.recorder.sealed.logs import SEALING, PlainLedger

SENDERS = ("reflex", "remote", "monitor")
BOOT = "5e" * 16
"""The senders outlive the recorder, so their boot stays."""
PROCESS = replace(SEALING, segment_bytes=32_768)
"""Small, so that kills meet rotations too."""


class Appender:
    """Appends batches of mixed streams from several senders, `seq` by `seq`."""

    def __init__(self, log: SealedLog, seed: int) -> None:
        self.log = log
        self._rng = random.Random(seed)
        self.acknowledged = {source: log.last_seq(source, BOOT) for source in SENDERS}

    def step(self) -> None:
        """One batch; what is on disk already, from before a kill, is left out as the service does."""
        count = self._rng.choice([1, 2, 5, 20])
        upto = {source: self.acknowledged[source] + count for source in SENDERS}
        batch = [
            self._record(source, self.acknowledged[source] + more)
            for more in range(1, count + 1)
            for source in SENDERS
        ]
        self.log.append(
            [item for item in batch if not self.log.has(item)],
            {(source, BOOT): seq for source, seq in upto.items()},
        )
        self.acknowledged = upto

    def _record(self, source: str, seq: int) -> Record:
        # Of the number alone: a record that is sent again is the same.
        rng = random.Random(f"{source} {seq}")
        stream = rng.choice([*STREAMS, "safety"])
        body = {"n": seq, "noise": rng.randbytes(rng.choice([0, 5, 50, 700])).hex()}
        return Record(source, BOOT, seq, stream, "e", seq, seq, body, "s")


def run(folder: Path, seed: int, sealing: Sealing = PROCESS) -> None:
    """Until it is killed."""
    log = SealedLog(folder, sealing, PlainLedger(folder))
    appender = Appender(log, seed)
    for source, seq in appender.acknowledged.items():
        sys.stdout.write(f"start {source} {seq}\n")
    while True:
        appender.step()
        sys.stdout.write("".join(f"ack {source} {seq}\n" for source, seq in appender.acknowledged.items()))
        sys.stdout.flush()


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
