"""`python -m hil.log faults`: the matrix, as a table and JSON."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hil.log.matrix import BY_NAME, FAULTS, Result, run
from hil.log.tell import add_common, counter, load_average, show, whole, write_json

SEED = 4
LIVES = 1_000
FAST = Path("/dev/shm")  # noqa: S108 - a temporary folder is made in it
"""Where nothing waits for a disk: what ends here are processes, and a power cut is done by hand."""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The subcommand."""
    about = "every fault of the matrix: tries, acknowledged records lost, verify's exit codes / 故障矩阵"
    parser = commands.add_parser("faults", help=about, description=about)
    parser.add_argument("--fault", action="append", choices=BY_NAME, help="only this one; may be repeated")
    parser.add_argument("--thin", type=whole(1, 10**6), default=1, help="one try of so many (1: all)")
    parser.add_argument("--lives", type=whole(1, 10**6), default=LIVES, help=f"kills of each sort ({LIVES})")
    parser.add_argument("--seed", type=whole(0, 10**9), default=SEED, help=f"of all that is random ({SEED})")
    add_common(parser, FAST if FAST.is_dir() else None)
    parser.set_defaults(run=main)


def main(arguments: argparse.Namespace) -> int:
    """1 where something was lost in silence or verify said what is not true."""
    results: list[Result] = []
    try:
        _run(arguments, results)
    finally:  # what was found until somebody interrupted it counts too
        _tell(arguments, results)
    return 0 if all(result.tally.good for result in results) else 1


def _run(arguments: argparse.Namespace, results: list[Result]) -> None:
    wanted = [BY_NAME[name] for name in arguments.fault or BY_NAME]
    for fault, tries in run(wanted, arguments.folder, now=time.monotonic, **_options(arguments)):
        with counter(fault.en) as advance:
            results.append(tries(advance))
        print(_row_words(results[-1]), file=sys.stderr)


def _options(arguments: argparse.Namespace) -> dict[str, int]:
    return {"seed": arguments.seed, "thin": arguments.thin, "lives": arguments.lives}


def _tell(arguments: argparse.Namespace, results: Sequence[Result]) -> None:
    about: dict[str, object] = {**_options(arguments), "load_average": load_average()}
    show(table(results), about)
    _show_wrong(results)
    if arguments.json is not None:
        write_json(arguments.json, about, [as_json(result) for result in results])


def table(results: Sequence[Result]) -> Table:
    """Fault -> tries, lost, verdicts."""
    made = Table(title="故障矩阵 fault matrix", title_justify="left", title_style="bold")
    made.add_column("故障 fault")
    for name in ("次数 tries", "丢失 lost", "未报 silent"):
        made.add_column(name, justify="right")
    made.add_column("发现时 verify as found")
    made.add_column("续写后 after it went on")
    made.add_column("判定 verdict")
    for result in sorted(results, key=lambda each: FAULTS.index(each.fault)):
        tally = result.tally
        verdict = "[green]真 true[/]" if tally.good else f"[red]{tally.untrue} 误 untrue[/]"
        counts = (f"{tally.tries:,}", f"{tally.lost:,}", f"{tally.silent:,}")
        name = f"{result.fault.zh}\n[dim]{result.fault.en}[/]"
        made.add_row(name, *counts, _codes(tally.found), _codes(tally.after), verdict)
    made.caption = (
        "lost: acknowledged records that are not there; silent: those of them that no verdict reports\n"
        "verify: 0 clean, 1 explained, 2 tampering, 3 incomplete (× how often)"
    )
    made.caption_justify = "left"
    return made


def _codes(codes: Counter[int]) -> str:
    return ", ".join(f"{code} (×{count:,})" for code, count in sorted(codes.items()))


def _row_words(result: Result) -> str:
    tally = result.tally
    word = "true" if tally.good else "UNTRUE"
    counts = f"{tally.tries} tries, {tally.silent} lost in silence"
    return f"{result.fault.name}: {counts}, {word}, {result.seconds:.0f} s"


def _show_wrong(results: Sequence[Result]) -> None:
    for result in results:
        for words in result.tally.wrong:
            Console(stderr=True, highlight=False).print(f"{result.fault.name}: {words}", markup=False)


def as_json(result: Result) -> dict[str, object]:
    """One row; exit code -> how often, as it was found and at the end."""
    tally = result.tally
    return {
        "fault": result.fault.name,
        "about": result.fault.en,
        "tries": tally.tries,
        "lost": tally.lost,
        "lost_silently": tally.silent,
        "untrue": tally.untrue,
        "found": dict(sorted(tally.found.items())),
        "after": dict(sorted(tally.after.items())),
        "good": tally.good,
        "wrong": tally.wrong,
        "seconds": round(result.seconds, 1),
    }
