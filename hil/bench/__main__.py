"""`python -m hil.bench`: measures, shows, and leaves nothing running."""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from agent.errors import WardenError
from hil.bench.build import has_libmosquitto
from hil.bench.environment import environment, granted_words, load_average
from hil.bench.paths import BY_NAME, PATHS
from hil.bench.paths import Path as Row
from hil.bench.report import Result, as_json, table
from hil.bench.rig import Rig
from hil.bench.samples import Bound, Samples

DONE, FAILED, INTERRUPTED = 0, 1, 130
SECONDS = 230.0
MOST_SAMPLES = 100_000
MOST_BUSY = 64
WIDTH = 110
"""Of the tables where nobody's terminal says otherwise."""


def main(words: Sequence[str] | None = None) -> int:
    """Exit code: 0 measured (whatever came out), 1 could not (one line says why), 2 wrong usage."""
    arguments = _parser().parse_args(words)
    results: list[Result] = []
    about = environment()
    code = DONE
    try:
        run(arguments, results.append, about)
    except (WardenError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        code = FAILED
    except KeyboardInterrupt:
        code = INTERRUPTED
    _show(results, about)
    if arguments.json is not None:
        _write(arguments.json, results, about)
    return code


def run(arguments: argparse.Namespace, found: Callable[[Result], None], about: dict[str, object]) -> None:
    """Every path in every condition; `found` hears of each as it is done. Raises WardenError, OSError."""
    end_s = time.monotonic() + arguments.seconds
    rows = [BY_NAME[name] for name in arguments.path or BY_NAME]
    conditions = [*([0] if arguments.idle else []), *([arguments.load] if arguments.load else [])]
    todo = [(busy, row) for busy in conditions for row in rows]
    with _progress() as progress, Rig() as rig:
        about.update(rig.about())
        for number, (busy, row) in enumerate(todo):
            share = row.weight / sum(each.weight for _, each in todo[number:])
            bound = Bound(_count(row, arguments), time.monotonic() + share * (end_s - time.monotonic()))
            task = progress.add_task(f"{row.name}, {busy} busy", total=bound.count)
            samples = Samples(on_sample=lambda task=task: progress.advance(task))  # type: ignore[misc]
            with rig.load(busy):
                row.measure(rig, bound, samples)
                found(Result(row, busy, load_average(), samples))
        about["realtime"] = rig.granted


def _count(row: Row, arguments: argparse.Namespace) -> int:
    return int(arguments.samples) if arguments.samples else row.samples


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _show(results: Sequence[Result], about: dict[str, object]) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    for row in PATHS:
        mine = [result for result in results if result.path is row]
        if mine:
            console.print(table(row, mine))
    for line in _notes(about):
        console.print(f"[dim]{line}[/]", soft_wrap=True)


def _notes(about: dict[str, object]) -> Iterator[str]:
    yield ", ".join(f"{key} {value}" for key, value in about.items() if key != "realtime" and value != "")
    realtime = about.get("realtime")
    if isinstance(realtime, dict):
        yield granted_words(realtime)
    if not has_libmosquitto():
        yield "libmosquitto is not installed: its path has no C reference / 未安装 libmosquitto，无对照"
    yield "同一次运行中交替采样 in one run, sample by sample in turn; –: 样本太少 too few samples for it"


def _write(path: Path, results: Sequence[Result], about: dict[str, object]) -> None:
    text = json.dumps(
        {"environment": about, "results": list(map(as_json, results))}, ensure_ascii=False, indent=1
    )
    path.write_text(text + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hil.bench",
        description="Reaction times of the agent beside C programs that do the same work, as ratios.",
    )
    cores = os.cpu_count() or 1
    parser.add_argument("--path", action="append", choices=BY_NAME, help="only this one; may be repeated")
    parser.add_argument(
        "--samples", type=_whole(1, MOST_SAMPLES), help="of each, on every path (default: the path's own)"
    )
    parser.add_argument(
        "--load", type=_whole(0, MOST_BUSY), default=cores, help=f"busy loops beside it, 0: none ({cores})"
    )
    parser.add_argument(
        "--idle", action=argparse.BooleanOptionalAction, default=True, help="measure without busy loops too"
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=SECONDS, help=f"about how long it may take in all ({SECONDS:g})"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    return parser


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"a whole number from {least} to {most}, not {text!r}")
        return int(text)

    return read


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"1 to 86400 seconds, not {text!r}")
    return seconds


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it ends everything in order, as Ctrl-C does
    sys.exit(main())
