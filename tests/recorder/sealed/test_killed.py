"""A real process that appends, killed with SIGKILL again and again."""

import random
import subprocess
import sys
from pathlib import Path

from agent.logformat.layout import STREAMS
from agent.recorder.sealed.log import SealedLog
from tests.recorder.sealed.logs import PlainLedger, check_whole, segments
from tests.recorder.sealed.process import PROCESS, SENDERS

ROOT = Path(__file__).parents[3]
KILLS = 25
PATIENCE_S = 20
"""A busy machine may take that long to start an interpreter."""


class Told:
    """What the processes have said: the last number acknowledged of each sender."""

    def __init__(self) -> None:
        self.acknowledged = dict.fromkeys(SENDERS, 0)

    def hear(self, line: str) -> None:
        word, source, seq = line.split()
        if word == "start":
            assert int(seq) >= self.acknowledged[source], "what was acknowledged is remembered"
        self.acknowledged[source] = int(seq)


def live_and_die(folder: Path, told: Told, rng: random.Random) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.recorder.sealed.process",
        str(folder),
        str(rng.randrange(1 << 30)),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(rng.choice([1, 4, 30, 300])):
            told.hear(process.stdout.readline())
        process.kill()
        for line in process.stdout:  # what it had said before it died
            if line.endswith("\n"):
                told.hear(line)


def numbers(folder: Path) -> dict[str, list[int]]:
    """Of each sender, over all streams."""
    found: dict[str, list[int]] = {source: [] for source in SENDERS}
    for stream in STREAMS:
        for each in segments(folder, stream, passed_over=True):
            for item in each.records:
                assert item["d"]["n"] == item["q"]
                found[item["s"]].append(item["q"])
    return {source: sorted(seqs) for source, seqs in found.items()}


def test_nothing_acknowledged_is_lost_and_nothing_is_kept_twice(tmp_path: Path) -> None:
    folder, told, rng = tmp_path / "log", Told(), random.Random(4)
    for _ in range(KILLS):
        live_and_die(folder, told, rng)
    log = SealedLog(folder, PROCESS, PlainLedger(folder))
    log.close()
    for source, seqs in numbers(folder).items():
        assert len(seqs) == len(set(seqs)), "nothing twice"
        upto = told.acknowledged[source]
        assert seqs[:upto] == list(range(1, upto + 1))
    check_whole(folder)
    assert len(list((folder / "safety").glob("*.seg"))) >= KILLS // 2
