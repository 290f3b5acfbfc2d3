"""A log of one segment whose process was killed, and its next start."""

import os
from dataclasses import replace
from pathlib import Path

from agent.recorder.log import Recovered
from tests.recorder.sealed.logs import KEYS, RECIPIENTS, SEALING, abandon, open_log, record
from tests.recorder.sealed.reading import Segment, read_segment

ONE = replace(SEALING, recipients=RECIPIENTS[:1])
FRAMES = 4
NAME = "0000000001.seg"


def killed(folder: Path, stream: str) -> Segment:
    """A log whose process was killed after FRAMES frames of one record; its one segment."""
    log = open_log(folder, sealing=ONE)
    for seq in range(1, FRAMES + 1):
        log.append([record(seq, stream=stream)])
    abandon(log)
    return read_segment(folder / stream / NAME, KEYS)


def reopened(folder: Path) -> tuple[Recovered, ...]:
    log = open_log(folder, sealing=ONE)
    log.close()
    return log.recovered


def torn(folder: Path, stream: str) -> Segment:
    segment = killed(folder, stream)
    os.truncate(segment.path, segment.end - 5)
    return segment
