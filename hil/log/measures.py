"""The measurements of LOG's figures. All times in nanoseconds; thing and reference in turn, in rounds."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.events import EventSink
from agent.recorder.log import Record
from agent.recorder.sealed.packing import Compressor, pack
from hil.log.contenders import Commit, contenders, texts
from hil.log.mix import BOOTS, Mix, S

WALL_NS = 1_800_000_000 * S
COMMITS = 25
"""Of each contender in one round."""
EMITS = 2_000
"""In one round; less than a sink's queue, so that none is dropped."""
PER_FRAME = 20
"""Records (LOG)."""
SIZED_FRAMES = 100

Advance = Callable[[int], None]


@dataclass(slots=True)
class Commits:
    """Contender -> ns of each commit, and records/s of each round."""

    times: dict[str, list[int]] = field(default_factory=dict)
    rates: dict[str, list[float]] = field(default_factory=dict)


def commits(folder: Path, size: int, rounds: int, advance: Advance) -> Commits:
    """Batches of `size` records of `safety` made durable by everybody, in turn."""
    found, mix = Commits(), Mix(1, WALL_NS)
    with contenders(folder) as everybody:
        for number in range(rounds):
            order = list(everybody.items())
            for name, commit in order[number % len(order) :] + order[: number % len(order)]:
                took = list(_commits(commit, mix, size))
                found.times.setdefault(name, []).extend(took)
                found.rates.setdefault(name, []).append(size * len(took) * S / sum(took))
            advance(1)
    return found


def _commits(commit: Commit, mix: Mix, size: int) -> Iterator[int]:
    for _ in range(COMMITS):
        records = mix.safety(size)
        lines = texts(records)
        begun = time.perf_counter_ns()
        commit(records, lines)
        yield time.perf_counter_ns() - begun


def emits(folder: Path, rounds: int, advance: Advance) -> list[int]:
    """Ns of each `EventSink.emit`: the packet is made and queued; sending is the loop's, not the caller's."""
    loop = asyncio.new_event_loop()
    found: list[int] = []
    mix = Mix(2, WALL_NS)
    try:
        for _ in range(rounds):
            sink = EventSink(
                loop, folder / "none", source="remote", boot=BOOTS["remote"], allowed_uids=frozenset()
            )
            for record in mix.safety(EMITS):
                begun = time.perf_counter_ns()
                sink.emit(record.kind, record.body)
                found.append(time.perf_counter_ns() - begun)
            sink.close()
            advance(1)
    finally:
        loop.close()
    return found


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes per record: its JSON, what a frame adds without compression, all of it as it is kept."""

    json: float
    overhead: float
    kept: float


def sizes(frames: int = SIZED_FRAMES) -> Mapping[str, Sizes]:
    """Stream -> sizes at 20 records a frame, of the mix."""
    mix, count = Mix(3, WALL_NS), frames * PER_FRAME
    seconds = [mix.second(number) for number in range(count)]
    streams = {"safety": mix.safety(count)}
    for stream in ("net", "tele"):
        streams[stream] = [record for second in seconds for record in second if record.stream == stream]
    return {stream: _sizes(records[:count]) for stream, records in streams.items()}


def _sizes(records: Sequence[Record]) -> Sizes:
    raw = sum(len(line) - 1 for line in texts(records))
    compressor, kept, plain = Compressor(), 0, 0
    for first in range(0, len(records), PER_FRAME):
        batch = records[first : first + PER_FRAME]
        kept += sum(each.size for each in pack(batch, compressor))
        plain += sum(each.size for each in pack(batch, None))
    return Sizes(raw / len(records), (plain - raw) / len(records), kept / len(records))
