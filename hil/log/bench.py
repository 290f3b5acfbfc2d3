"""`python -m hil.log bench`: LOG's figures in one run, each beside what it is to reach."""

import argparse
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from rich.table import Table

from hil.bench.figures import summary
from hil.log.contenders import PLAIN, PLAIN_JSON, SQLITE, SUITE1, SUITE2, has_suite2
from hil.log.measures import COMMITS, PER_FRAME, SIZED_FRAMES, Commits, commits, emits, sizes
from hil.log.reading import reading
from hil.log.tell import add_common, counter, load_average, show, whole, write_json

US = 1_000
ROUNDS, READING_ROUNDS, EMIT_ROUNDS, MEGABYTES = 40, 3, 10, 256
"""Of a log of 256 MB no row of reading is decided by the start of processes; it takes a minute to fill."""
SUITE2_SHARE = 4
"""Suite 2, for which no figure of reading is set, is read on a log so many times smaller."""
BATCHES = (PER_FRAME, 1)
RATE_TO_REACH = {SUITE1: 0.65, SUITE2: 0.35}
COLUMNS = ("p50", "p99", "worst")
BARS = " ▁▂▃▄▅▆▇█"
LEAST_NS, DECADES, STEPS = 50_000, 3, 8
"""A shape goes from 50 µs to 50 ms, eight bars for each power of ten."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `p50`, `p99`, `worst` in `unit`; None where the samples carry none, or it makes no sense.

    `shape`: how the samples are spread, drawn.
    `at_least`, `at_most`: the figure to reach, for p50; `load`: over one minute when it was measured.
    """

    name: str
    unit: str
    samples: int
    p50: float
    p99: float | None = None
    worst: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    shape: str = ""
    load: float = field(default_factory=lambda: load_average()[0])

    @property
    def reached(self) -> bool | None:
        """None where there is nothing to reach."""
        if self.at_least is not None:
            return self.p50 >= self.at_least
        return self.p50 <= self.at_most if self.at_most is not None else None


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The subcommand."""
    about = "the sealed log beside plain append + fdatasync and SQLite; sizes; reading / 性能指标"
    parser = commands.add_parser("bench", help=about, description=about)
    parser.add_argument("--rounds", type=whole(1, 10_000), default=ROUNDS, help=f"of commits ({ROUNDS})")
    parser.add_argument("--mb", type=whole(1, 100_000), default=MEGABYTES, help=f"log to read ({MEGABYTES})")
    add_common(parser)
    parser.set_defaults(run=main)


def main(arguments: argparse.Namespace) -> int:
    """0, whatever came out."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as made:
        rows = list(measure(Path(made), arguments.rounds, arguments.mb))
    about: dict[str, object] = {"load_average": load_average(), "commits_a_round": COMMITS}
    show(table(rows), about)
    if arguments.json is not None:
        write_json(arguments.json, about, [{**asdict(row), "reached": row.reached} for row in rows])
    return 0


def measure(folder: Path, rounds: int, megabytes: int) -> Iterator[Row]:
    """Every row, in order."""
    for size in BATCHES:
        with counter(f"commits of {size}", rounds) as advance:
            at = folder / f"commits{size}"
            at.mkdir()
            yield from _commit_rows(size, commits(at, size, rounds, advance))
    with counter("emit", EMIT_ROUNDS) as advance:
        found = summary(emits(folder, EMIT_ROUNDS, advance))
    yield Row("EventSink.emit", "µs", EMIT_ROUNDS * 2_000, *_times(found), at_most=50)
    for stream, each in sizes().items():
        n = SIZED_FRAMES * PER_FRAME
        yield Row(f"{stream}: JSON of a record", "B", n, each.json)
        yield Row(f"{stream}: added by frames of {PER_FRAME}", "B", n, each.overhead, at_most=5)
        yield Row(f"{stream}: kept, compressed and sealed", "B", n, each.kept)
    for suite in (1, *([2] if has_suite2() else [])):
        yield from _reading_rows(folder, suite, megabytes if suite == 1 else -(-megabytes // SUITE2_SHARE))


def _commit_rows(size: int, found: Commits) -> Iterator[Row]:
    words = f"{size} records" if size > 1 else "1 record"
    for name, took in found.times.items():
        yield Row(f"{words}: {name}, commit", "µs", len(took), *_times(summary(took)), shape=shape(took))
        yield _spread(f"{words}: {name}, durable records", "/s", found.rates[name])
    for name in (SUITE1, SUITE2, SQLITE):
        if name not in found.times:
            continue
        bound = RATE_TO_REACH.get(name)
        for reference in (PLAIN, PLAIN_JSON, SQLITE):
            if name != reference:
                pairs = zip(found.rates[name], found.rates[reference], strict=True)
                ratios = [ours / theirs for ours, theirs in pairs]
                least = bound if reference == PLAIN and size > 1 else None
                yield _spread(f"{words}: rate, {name} / {reference}", "×", ratios, at_least=least)
        yield _commit_ratio(words, name, found, 1.5 if name == SUITE1 and size > 1 else None)


def _commit_ratio(words: str, name: str, found: Commits, bound: float | None) -> Row:
    ours, plain = summary(found.times[name]), summary(found.times[PLAIN])
    parts = [
        float(mine) / theirs if (mine := ours[column]) and (theirs := plain[column]) else None
        for column in COLUMNS
    ]
    return Row(
        f"{words}: commit, {name} / {PLAIN}",
        "×",
        len(found.times[name]),
        parts[0] or 0.0,
        parts[1],
        parts[2],
        at_most=bound,
    )


def _reading_rows(folder: Path, suite: int, megabytes: int) -> Iterator[Row]:
    with counter(f"reading, suite {suite}", READING_ROUNDS + 1) as advance:
        found = reading(folder, suite, megabytes, READING_ROUNDS, advance)
    words = f"suite {suite}, {found.bytes / 1e6:.0f} MB"
    figures = (200.0, 100.0) if suite == 1 else (None, None)
    yield _spread(f"{words}: verify without key", "MB/s", found.verify, at_least=figures[0])
    yield _spread(f"{words}: every frame authenticated and decompressed", "MB/s", found.open)
    yield _spread(
        f"{words}: verify, then every frame opened, nothing written", "MB/s", found.both, at_least=figures[1]
    )
    told = f"suite {suite}, {found.told_bytes / 1e6:.0f} MB to JSON lines"
    yield _spread(f"{told}: records' JSON", "MB/s", found.tell_mb)
    yield _spread(f"{told}: records", "/s", found.tell)
    yield _spread(f"{words}: SHA-256 of its files, one process", "MB/s", found.hash)


def _spread(name: str, unit: str, values: Sequence[float], at_least: float | None = None) -> Row:
    """Of rounds, where more is better: the worst is the least."""
    ordered = sorted(values, reverse=True)
    enough = len(ordered) >= 100
    p99 = ordered[int(0.99 * len(ordered)) - 1] if enough else None
    return Row(name, unit, len(values), median(values), p99, ordered[-1], at_least=at_least)


def shape(took: Sequence[int]) -> str:
    """Bars over the logarithm of time, as high as their share of the samples; the fullest is full."""
    counts = [0] * (DECADES * STEPS)
    for ns in took:
        place = int(math.log10(max(ns, LEAST_NS) / LEAST_NS) * STEPS)
        counts[min(place, len(counts) - 1)] += 1
    most = max(counts)
    return "".join(BARS[math.ceil(count / most * (len(BARS) - 1))] for count in counts)


def _times(found: dict[str, int | None]) -> tuple[float, float | None, float | None]:
    """p50, p99 and worst in µs."""
    p50, p99, worst = (found[column] for column in COLUMNS)
    return (p50 or 0) / US, None if p99 is None else p99 / US, None if worst is None else worst / US


def table(rows: Sequence[Row]) -> Table:
    """For people."""
    made = Table(title="日志性能 figures of the sealed log", title_justify="left", title_style="bold")
    made.add_column("")
    for name in ("p50", "p99", "最差 worst", "n", "目标 to reach", "load"):
        made.add_column(name, justify="right")
    made.add_column("50 µs … 50 ms", no_wrap=True)
    for row in rows:
        colour = {True: "green", False: "red"}.get(row.reached) if row.reached is not None else None
        p50 = _cell(row.p50, row.unit)
        made.add_row(
            row.name,
            f"[{colour}]{p50}[/]" if colour else p50,
            _cell(row.p99, row.unit),
            _cell(row.worst, row.unit),
            f"{row.samples:,}",
            _bound(row),
            f"{row.load:.1f}",
            row.shape,
        )
    made.caption = (
        "references make durable the same JSON bytes, made beforehand; n: commits, or rounds of them"
    )
    made.caption_justify = "left"
    return made


def _cell(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    digits = 2 if value < 20 else 0
    return f"{value:,.{digits}f} {unit}"


def _bound(row: Row) -> str:
    if row.at_least is not None:
        return f"≥ {row.at_least:g} {row.unit}"
    return f"≤ {row.at_most:g} {row.unit}" if row.at_most is not None else ""
